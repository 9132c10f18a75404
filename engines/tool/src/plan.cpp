#include "plan.h"

#include <algorithm>

#include "failure.h"
#include "files.h"
#include "json_object.h"

namespace d2export::tool {
namespace {

constexpr std::int64_t kSchema = 1;

Shapes shapes_of(JsonObject object) {
    Shapes shapes{object.wholes("min"), object.wholes("opt"), object.wholes("max")};
    object.close();
    const std::size_t rank = shapes.min.size();
    bool ordered = shapes.opt.size() == rank && shapes.max.size() == rank;
    for (std::size_t axis = 0; ordered && axis < rank; ++axis) {
        ordered = 0 <= shapes.min[axis] && shapes.min[axis] <= shapes.opt[axis] &&
                  shapes.opt[axis] <= shapes.max[axis];
    }
    if (!ordered) {
        throw usage(object.where() + " does not hold 0 <= min <= opt <= max in every dimension",
                    "Plan again: d2export build BUNDLE --target NAME.");
    }
    return shapes;
}

Profile profile_of(JsonObject object) {
    Profile profile{object.text("name"), {}};
    JsonObject shapes = object.object("shapes");
    for (const std::string& input : shapes.names()) {
        profile.shapes.emplace(input, shapes_of(shapes.object(input)));
    }
    object.close();
    return profile;
}

PluginUse plugin_of(JsonObject object) {
    PluginUse use{object.text("library"), object.text("version"), object.text("namespace"),
                  object.texts("ops"), object.truth("serialized")};
    object.close();
    return use;
}

Plan plan_of(JsonObject object) {
    Plan plan;
    plan.graph = object.text("graph");
    plan.onnx = object.text("onnx");
    plan.engine = object.text("engine");
    plan.precision = object.text("precision");
    plan.tensorrt = object.text("tensorrt");
    plan.network_flags = object.texts("network_flags");
    plan.builder_flags = object.texts("builder_flags");
    plan.cleared_flags = object.texts("cleared_flags");
    plan.preview_features = object.texts("preview_features");
    plan.tactic_sources = object.texts("tactic_sources");
    JsonObject pools = object.object("memory_pools");
    for (const std::string& pool : pools.names()) plan.memory_pools[pool] = pools.whole(pool);
    plan.hardware_compatibility = object.text("hardware_compatibility");
    plan.optimization_level = object.whole("optimization_level");
    plan.pins_layer_types = object.truth("pins_layer_types");
    plan.progress_monitor = object.truth("progress_monitor");
    if (object.has("plugin")) plan.plugin = plugin_of(object.object("plugin"));
    for (JsonObject& profile : object.objects("profiles")) {
        plan.profiles.push_back(profile_of(std::move(profile)));
    }
    if (object.has("timing_cache")) plan.timing_cache = object.text("timing_cache");
    object.close();
    return plan;
}

std::string graphs_of(const std::vector<Plan>& plans) {
    std::string names;
    for (const Plan& plan : plans) names += (names.empty() ? "" : ", ") + plan.graph;
    return names;
}

}  // namespace

std::vector<Plan> read_plans(const std::filesystem::path& path) {
    const std::string text = read_file(path, "the file engines/plan.json of a bundle");
    nlohmann::json parsed;
    try {
        parsed = nlohmann::json::parse(text);
    } catch (const nlohmann::json::parse_error& error) {
        throw usage(path.string() + " is no JSON: " + error.what(),
                    "Pass the file engines/plan.json of a bundle.");
    }
    JsonObject top(parsed, path.string());
    const std::int64_t schema = top.whole("schema");
    if (schema != kSchema) {
        throw usage(path.string() + " has schema " + std::to_string(schema) + ", expected " +
                        std::to_string(kSchema),
                    "Compile the tool of the d2export that wrote the plan, or plan again.");
    }
    for (const char* name : {"tool", "target", "options"}) top.ignore(name);
    std::vector<Plan> plans;
    for (JsonObject& engine : top.objects("engines")) {
        plans.push_back(plan_of(engine.object("plan")));
        engine.ignore("trtexec");
        engine.ignore("differences");
        engine.close();
    }
    top.close();
    return plans;
}

Plan choose_plan(std::vector<Plan> plans, const std::optional<std::string>& graph,
                 const std::filesystem::path& onnx) {
    const bool only_one = plans.size() == 1;
    const auto found = std::find_if(plans.begin(), plans.end(), [&](const Plan& plan) {
        if (graph) return plan.graph == *graph;
        return only_one || std::filesystem::path(plan.onnx).filename() == onnx.filename();
    });
    if (found != plans.end()) return *found;
    if (graph) {
        throw usage("--graph is '" + *graph + "', the plan has " + graphs_of(plans),
                    "Pass one of these.");
    }
    throw usage("no plan is for a file named " + onnx.filename().string() +
                    "; there are plans for " + graphs_of(plans),
                "Pass one of these as --graph.");
}

}  // namespace d2export::tool
