#include "session.h"

#include <d2export/error.h>

#include <algorithm>

namespace d2export::runtime::ort {
namespace {

constexpr const char* kBuildAgain = "Build the bundle again.";

Owned<OrtSessionOptions> settings_of(const Library& library, const OnnxRuntimeOptions& options) {
    const OrtApi& api = library.api();
    OrtSessionOptions* raw = nullptr;
    const auto check = [&](OrtStatus* status) {
        library.check(status, "ONNX Runtime refuses its settings",
                      "Is there enough memory? Are the threads at least 0?");
    };
    check(api.CreateSessionOptions(&raw));
    Owned<OrtSessionOptions> settings(raw, {api.ReleaseSessionOptions});
    // A plan of the memory for each shape that comes would be held for good, beside the arena.
    check(api.DisableMemPattern(raw));
    check(api.SetSessionLogSeverityLevel(raw, ORT_LOGGING_LEVEL_ERROR));
    if (options.threads > 0) {
        check(api.SetIntraOpNumThreads(raw, options.threads));
    }
    if (!options.custom_ops.empty()) {
        library.check(api.RegisterCustomOpsLibrary_V2(raw, options.custom_ops.c_str()),
                      "ONNX Runtime cannot load " + options.custom_ops,
                      "Leave it out: graphs run without it, too.", Blame::kMachine);
    }
    return settings;
}

std::vector<const char*> names_of(const std::vector<ValueSpec>& values) {
    std::vector<const char*> names;
    for (const ValueSpec& value : values) {
        names.push_back(value.name.c_str());
    }
    return names;
}

}  // namespace

Session::Session(std::shared_ptr<const Library> library, const Bundle& bundle,
                 const GraphSpec& graph, const OnnxRuntimeOptions& options)
    : library_(std::move(library)), spec_(graph), path_(bundle.path(graph.path).string()) {
    if (bundle.manifest().precision == "bf16") {
        throw misfit(
            path_ + " has precision bf16, for which ONNX Runtime has no kernels on the CPU",
            "Build the bundle with --precision fp32 or fp16.");
    }
    inputs_ = names_of(spec_.inputs);
    outputs_ = names_of(spec_.outputs);
    const OrtApi& api = library_->api();
    OrtMemoryInfo* host = nullptr;
    check(api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &host));
    host_ = {host, {api.ReleaseMemoryInfo}};
    const Owned<OrtSessionOptions> settings = settings_of(*library_, options);
    OrtSession* session = nullptr;
    library_->check(
        api.CreateSession(library_->environment(), path_.c_str(), settings.get(), &session),
        "ONNX Runtime " + library_->version() + " cannot open " + path_, kBuildAgain);
    session_ = {session, {api.ReleaseSession}};
    check_names(true, spec_.inputs);
    check_names(false, spec_.outputs);
}

void Session::check_names(bool inputs, const std::vector<ValueSpec>& expected) const {
    const OrtApi& api = library_->api();
    OrtAllocator* allocator = nullptr;
    check(api.GetAllocatorWithDefaultOptions(&allocator));
    std::size_t count = 0;
    check(inputs ? api.SessionGetInputCount(session_.get(), &count)
                 : api.SessionGetOutputCount(session_.get(), &count));
    std::vector<std::string> found;
    for (std::size_t i = 0; i < count; ++i) {
        char* name = nullptr;
        check(inputs ? api.SessionGetInputName(session_.get(), i, allocator, &name)
                     : api.SessionGetOutputName(session_.get(), i, allocator, &name));
        found.emplace_back(name);
        check(api.AllocatorFree(allocator, name));
    }
    for (const ValueSpec& value : expected) {
        const auto same = std::find(found.begin(), found.end(), value.name);
        if (same == found.end()) {
            throw bad_input(path_ + " has no " + (inputs ? "input " : "output ") + value.name +
                                ", which manifest.json says it has",
                            kBuildAgain);
        }
        found.erase(same);
    }
    if (inputs && !found.empty()) {
        throw bad_input(
            path_ + " has an input " + found.front() + " that manifest.json does not know",
            kBuildAgain);
    }
}

void Session::run(const OrtValue* const* inputs, OrtValue** outputs) const {
    check(library_->api().Run(session_.get(), nullptr, inputs_.data(), inputs, inputs_.size(),
                              outputs_.data(), outputs_.size(), outputs));
}

void Session::check(OrtStatus* status) const {
    library_->check(status, "ONNX Runtime cannot run " + path_,
                    "Is there enough memory? Else build the bundle again.");
}

}  // namespace d2export::runtime::ort
