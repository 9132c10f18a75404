// What the stand-ins for TensorRT's libraries share. A test says by environment variables what they
// shall do, and reads what they were told in a file:
//
//   STAND_IN_TOLD      file that gets a line for each thing they were told
//   STAND_IN_VERSION   what getInferLibVersion answers; default: that of the headers
//   STAND_IN_REFUSES   builder, parser, profile, build, timings, plugin, engine, run, graph or gpu
#pragma once

#include <cstdlib>
#include <fstream>
#include <string>

inline bool refuses(const std::string& what) {
    const char* const refused = std::getenv("STAND_IN_REFUSES");
    return refused != nullptr && what == refused;
}

inline void told(const std::string& line) {
    const char* const file = std::getenv("STAND_IN_TOLD");
    if (file != nullptr) std::ofstream(file, std::ios::app) << line << '\n';
}
