#include <d2export/engines.h>
#include <d2export/error.h>

#include "json_reader.h"
#include "manifest_limits.h"
#include "verified_file.h"
#include "whole_file.h"

namespace d2export::runtime {
namespace {

constexpr const char* kRecord = "engines/engines.json";
constexpr const char* kBuildEngines =
    "Build the engines again: d2export build BUNDLE --target auto";

std::string text_of(const std::array<std::int64_t, 2>& capability) {
    return std::to_string(capability[0]) + "." + std::to_string(capability[1]);
}

void read_gpu(json::Reader at, Engines& engines) {
    engines.gpu = at.line("name");
    std::vector<std::int64_t> capability;
    at.each("compute_capability", [&](json::Value& value, const std::string& where) {
        capability.push_back(json::whole(value, where, 0));
    });
    if (capability.size() != 2) {
        throw json::Mismatch(at.at("compute_capability"),
                             "an array of " + std::to_string(capability.size()), "an array of 2");
    }
    engines.compute_capability = {capability[0], capability[1]};
    at.whole("memory", 1);
    at.close();
}

Engines read_record(json::Value& document) {
    json::Reader top(document, "");
    Engines engines;
    top.whole("schema", 1, 1);
    json::Reader tool = top.object("tool");
    tool.one_of("name", {"d2export"});
    engines.tool_version = tool.line("version");
    tool.close();
    engines.target = top.line("target");
    engines.tensorrt = top.line("tensorrt");
    read_gpu(top.object("gpu"), engines);
    if (top.given("plugin")) {
        engines.plugin = top.path("plugin");
    }
    top.each("engines", [&](json::Value& value, const std::string& where) {
        json::Reader at(value, where);
        EngineSpec engine{at.line("graph"),
                          at.path("path"),
                          {at.whole("bytes", 1), at.sha256("sha256"), std::nullopt}};
        at.sha256("key");
        at.real("seconds", 0);
        at.close();
        engines.engines.push_back(std::move(engine));
    });
    top.close();
    return engines;
}

}  // namespace

std::optional<Engines> read_engines(const Bundle& bundle) {
    const auto path = bundle.path(kRecord);
    std::error_code problem;
    if (!std::filesystem::exists(path, problem)) {
        return std::nullopt;
    }
    try {
        json::Value document = json::parse(whole_file(path, kMaxManifestBytes));
        return read_record(document);
    } catch (const json::Mismatch& mismatch) {
        throw bad_input(path.string() + ": " + mismatch.what(),
                        "Delete the file and build the engines again.");
    }
}

void check_engines(const Bundle& bundle, const Engines& engines, const EngineHost& host) {
    const std::string root = bundle.root().string();
    if (engines.tensorrt != host.tensorrt) {
        throw misfit("the engines of " + root + " were built with TensorRT " + engines.tensorrt +
                         ", this machine has TensorRT " + host.tensorrt,
                     kBuildEngines);
    }
    if (engines.compute_capability != host.compute_capability) {
        throw misfit("the engines of " + root + " were built for a GPU " + engines.gpu +
                         " of compute capability " + text_of(engines.compute_capability) +
                         ", this machine has a GPU " + host.gpu + " of " +
                         text_of(host.compute_capability),
                     kBuildEngines);
    }
    std::error_code problem;
    if (engines.plugin && !std::filesystem::is_regular_file(host.plugin, problem)) {
        throw misfit(
            "the engines of " + root + " need the plugin " +
                std::filesystem::path(*engines.plugin).filename().string() + ", and " +
                (host.plugin.empty() ? "none is named" : host.plugin.string() + " is not there"),
            "Name the plugin that d2export built on this machine.");
    }
    for (const EngineSpec& engine : engines.engines) {
        verify_file(bundle.path(engine.path), engine.file, Verify::kEverything, kRecord,
                    kBuildEngines);
    }
}

}  // namespace d2export::runtime
