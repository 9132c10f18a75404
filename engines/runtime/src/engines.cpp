#include <d2export/engines.h>
#include <d2export/error.h>

#include <cstdio>
#include <cstdlib>

#include "json_reader.h"
#include "manifest_limits.h"
#include "verified_file.h"
#include "whole_file.h"

namespace d2export::runtime {
namespace {

constexpr const char* kRecord = "engines/engines.json";
constexpr const char* kPlan = "engines/plan.json";
constexpr std::array<std::int64_t, 2> kAmpere{8, 0};
// Modules that CUDA calls the same differ by more in memory; what a kernel reserves, by less.
constexpr std::int64_t kSameMemory = 8;   // one part of so many
constexpr std::size_t kShownDigits = 12;  // of a SHA-256 in a message
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
    engines.memory = at.whole("memory", 1);
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

// What else a plan says is for the builder.
void read_plan(json::Value& document, Engines& engines) {
    bool newer = true, others = true;
    json::Reader top(document, "");
    top.each("engines", [&](json::Value& value, const std::string& where) {
        json::Reader engine(value, where);
        json::Reader plan = engine.object("plan");
        bool compatible = false;
        plan.each("builder_flags", [&](json::Value& flag, const std::string& at) {
            compatible |= json::text(flag, at) == "VERSION_COMPATIBLE";
        });
        newer &= compatible;
        others &= plan.text("hardware_compatibility") != "NONE";
    });
    engines.newer_tensorrt = newer;
    engines.other_gpus = others;
}

// "10.3.0" as numbers, which compare; what is none is 0.
std::array<int, 3> numbers_of(const std::string& version) {
    std::array<int, 3> numbers{};
    std::sscanf(version.c_str(), "%d.%d.%d", &numbers[0], &numbers[1], &numbers[2]);
    return numbers;
}

std::string gpu_text(const std::string& name, const std::array<std::int64_t, 2>& capability,
                     std::int64_t memory) {
    char gigabytes[32];
    std::snprintf(gigabytes, sizeof gigabytes, "%.1f GB", static_cast<double>(memory) / 1e9);
    return "a GPU " + name + " of compute capability " + text_of(capability) + " and " + gigabytes;
}

void check_tensorrt(const std::string& root, const Engines& engines, const EngineHost& host) {
    const bool newer = numbers_of(engines.tensorrt) < numbers_of(host.tensorrt);
    if (engines.tensorrt == host.tensorrt || (engines.newer_tensorrt && newer)) {
        return;
    }
    throw misfit("the engines of " + root + " were built with TensorRT " + engines.tensorrt +
                     ", this machine has TensorRT " + host.tensorrt,
                 kBuildEngines);
}

void check_gpu(const std::string& root, const Engines& engines, const EngineHost& host) {
    const bool same = engines.gpu == host.gpu &&
                      engines.compute_capability == host.compute_capability &&
                      std::abs(engines.memory - host.memory) <= engines.memory / kSameMemory;
    if (same || (engines.other_gpus && host.compute_capability >= kAmpere)) {
        return;
    }
    throw misfit("the engines of " + root + " were built for " +
                     gpu_text(engines.gpu, engines.compute_capability, engines.memory) +
                     ", this machine has " +
                     gpu_text(host.gpu, host.compute_capability, host.memory),
                 kBuildEngines);
}

void check_plugin(const Bundle& bundle, const std::string& inside, const EngineHost& host) {
    const std::string root = bundle.root().string();
    const std::filesystem::path kept = bundle.path(inside);
    std::error_code problem;
    if (!std::filesystem::is_regular_file(host.plugin, problem)) {
        throw misfit(
            "the engines of " + root + " need the plugin " + kept.filename().string() + ", and " +
                (host.plugin.empty() ? "none is named" : host.plugin.string() + " is not there"),
            "Name the plugin that d2export built on this machine.");
    }
    if (!std::filesystem::is_regular_file(kept, problem)) {
        return;
    }
    const std::string before = file_sha256(kept), named = file_sha256(host.plugin);
    if (before != named) {
        throw misfit(
            "the engines were built with the plugin " + kept.string() + " (SHA-256 " +
                before.substr(0, kShownDigits) + "...), not with " + host.plugin.string() +
                " (SHA-256 " + named.substr(0, kShownDigits) + "...)",
            "If you trust this bundle, name " + kept.string() + "; else build the engines again.");
    }
}

json::Value document_of(const std::filesystem::path& path) {
    return json::parse(whole_file(path, kMaxManifestBytes));
}

}  // namespace

std::optional<Engines> read_engines(const Bundle& bundle) {
    auto path = bundle.path(kRecord);
    std::error_code problem;
    if (!std::filesystem::exists(path, problem)) {
        return std::nullopt;
    }
    try {
        json::Value document = document_of(path);
        Engines engines = read_record(document);
        if (std::filesystem::exists(bundle.path(kPlan), problem)) {
            path = bundle.path(kPlan);
            json::Value plan = document_of(path);
            read_plan(plan, engines);
        }
        return engines;
    } catch (const json::Mismatch& mismatch) {
        throw bad_input(path.string() + ": " + mismatch.what(),
                        "Delete the file and build the engines again.");
    }
}

void check_engines(const Bundle& bundle, const Engines& engines, const EngineHost& host) {
    const std::string root = bundle.root().string();
    check_tensorrt(root, engines, host);
    check_gpu(root, engines, host);
    if (engines.plugin) {
        check_plugin(bundle, *engines.plugin, host);
    }
    for (const EngineSpec& engine : engines.engines) {
        verify_file(bundle.path(engine.path), engine.file, Verify::kEverything, kRecord,
                    kBuildEngines);
    }
}

}  // namespace d2export::runtime
