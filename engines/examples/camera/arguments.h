// What camera is told.
#pragma once

#include <d2export/runtime.h>

#include <string>

namespace camera {

struct Arguments {
    std::string bundle;
    std::string folder;    // of frames, or
    std::string pipeline;  // GStreamer's description of what gives frames
    bool follow = false;
    d2export::runtime::Request request;
    std::string library;   // libonnxruntime.so; empty for the one that the system finds
    bool engines = false;  // TensorRT's instead
    std::string plugin;    // for these; empty for none
    std::string show;      // a folder for pictures with what was answered; empty for none
    std::string display;   // GStreamer's description of what takes them; empty for none
};

// Throws an Error that names the argument and what was expected.
Arguments read(int count, char** arguments);

}  // namespace camera
