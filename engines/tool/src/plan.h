// A plan for one engine, as d2export writes it to engines/plan.json of a bundle
// (d2export/engine/builder_plan.py says what each field means).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace d2export::tool {

struct Shapes {
    std::vector<std::int64_t> min, opt, max;
};

struct Profile {
    std::string name;
    std::map<std::string, Shapes> shapes;  // by input
};

struct PluginUse {
    std::string library, version, name_space;
    std::vector<std::string> ops;
    bool serialized;
};

// Names are those of NvInfer.h without their k.
struct Plan {
    std::string graph, onnx, engine, precision, tensorrt;
    std::vector<std::string> network_flags, builder_flags, cleared_flags, preview_features,
        tactic_sources;
    std::map<std::string, std::int64_t> memory_pools;  // bytes
    std::string hardware_compatibility;
    std::int64_t optimization_level;
    bool pins_layer_types, progress_monitor;
    std::optional<PluginUse> plugin;
    std::vector<Profile> profiles;
    std::optional<std::string> timing_cache;
};

// All plans of a file. Throws a Failure that names the field which is not what it should be; a
// field that is not known here is one, too: it would change the engine.
std::vector<Plan> read_plans(const std::filesystem::path& path);

// The plan for `graph`; without a name the only one, or the one for an ONNX file of that name.
Plan choose_plan(std::vector<Plan> plans, const std::optional<std::string>& graph,
                 const std::filesystem::path& onnx);

}  // namespace d2export::tool
