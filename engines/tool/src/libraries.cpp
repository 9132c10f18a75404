#include "libraries.h"

#include <dlfcn.h>

#include <system_error>
#include <vector>

namespace d2export::tool {
namespace {

namespace fs = std::filesystem;

std::string with_major(const std::string& name) {
    return name + ".so." + std::to_string(kHeaders[0]);
}

std::string compiled_for() {
    return "this tool was compiled with the headers of TensorRT " + text_of(kHeaders);
}

// A function of a library. Libraries stay open until the program ends.
template <typename Function>
Function* symbol(void* library, const char* name) {
    void* const address = dlsym(library, name);
    if (address == nullptr) {
        throw mismatch(std::string("a library of TensorRT has no ") + name + ": " + dlerror(),
                       "Use the libraries of one TensorRT, whole.");
    }
    return reinterpret_cast<Function*>(address);
}

// libnvinfer asks for them by name alone, and finds those that are open already.
void open_builder_resources(const fs::path& folder) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (name.rfind("libnvinfer_builder_resource", 0) == 0) {
            dlopen(entry.path().c_str(), RTLD_LAZY | RTLD_GLOBAL);
        }
    }
}

// What initLibNvInferPlugins is found in when there is no libnvinfer_plugin (which would need
// cuBLAS and cuDNN): a library of that name beside this program.
fs::path stand_in_for_plugins() {
    std::error_code error;
    const fs::path program = fs::read_symlink("/proc/self/exe", error);
    return program.parent_path() / "without_plugins" / with_major("libnvinfer_plugin");
}

}  // namespace

void* Libraries::open(const std::string& name) const {
    const std::string file = folder_ ? (*folder_ / name).string() : name;
    void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library != nullptr) return library;
    throw mismatch("cannot open " + file + ": " + dlerror() + "; " + compiled_for(),
                   folder_ ? "Pass the folder of its libraries as --libraries, or compile the tool "
                             "with the headers of the TensorRT that is there."
                           : "Install TensorRT, or pass the folder of its libraries as "
                             "--libraries.");
}

Libraries::Libraries(std::optional<fs::path> folder) : folder_(std::move(folder)) {
    if (folder_) open_builder_resources(*folder_);
    nvinfer_ = open(with_major("libnvinfer"));
    version_ = version_from(symbol<std::int32_t()>(nvinfer_, "getInferLibVersion")());
    // Within a major version newer libraries have all that older headers know, not the other way.
    if (version_[0] != kHeaders[0] || version_ < Version{kHeaders[0], kHeaders[1], 0}) {
        throw mismatch("the library is TensorRT " + text_of(version_) + "; " + compiled_for(),
                       "Compile it with the headers of TensorRT " + text_of(version_) + ".");
    }
    registry_ = symbol<nvinfer1::IPluginRegistry*()>(nvinfer_, "getPluginRegistry")();
}

std::unique_ptr<nvinfer1::IBuilder> Libraries::builder(Log& log) const {
    const auto create = symbol<void*(void*, std::int32_t)>(nvinfer_, "createInferBuilder_INTERNAL");
    auto* const made = create(static_cast<nvinfer1::ILogger*>(&log), NV_TENSORRT_VERSION);
    if (made == nullptr) throw log.failure("TensorRT " + text_of(version_) + " makes no builder");
    return std::unique_ptr<nvinfer1::IBuilder>(static_cast<nvinfer1::IBuilder*>(made));
}

std::unique_ptr<nvinfer1::IRuntime> Libraries::runtime(Log& log) const {
    const auto create = symbol<void*(void*, std::int32_t)>(nvinfer_, "createInferRuntime_INTERNAL");
    auto* const made = create(static_cast<nvinfer1::ILogger*>(&log), NV_TENSORRT_VERSION);
    if (made == nullptr) throw log.failure("TensorRT " + text_of(version_) + " makes no runtime");
    return std::unique_ptr<nvinfer1::IRuntime>(static_cast<nvinfer1::IRuntime*>(made));
}

std::unique_ptr<nvonnxparser::IParser> Libraries::parser(nvinfer1::INetworkDefinition& network,
                                                         Log& log) const {
    if (kParserNeedsPluginLibrary) {
        const fs::path stand_in = stand_in_for_plugins();
        if (dlopen(stand_in.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
            throw mismatch("cannot open " + stand_in.string() + ": " + dlerror(),
                           "Leave the folder without_plugins beside the tool.");
        }
    }
    void* const library = open(with_major("libnvonnxparser"));
    const auto create = symbol<void*(void*, void*, int)>(library, "createNvOnnxParser_INTERNAL");
    auto* const made =
        create(&network, static_cast<nvinfer1::ILogger*>(&log), NV_ONNX_PARSER_VERSION);
    if (made == nullptr) throw log.failure("TensorRT " + text_of(version_) + " makes no parser");
    return std::unique_ptr<nvonnxparser::IParser>(static_cast<nvonnxparser::IParser*>(made));
}

}  // namespace d2export::tool
