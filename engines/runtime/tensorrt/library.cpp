#include "library.h"

#include <d2export/error.h>
#include <dlfcn.h>

#include <mutex>
#include <set>

#include "log.h"
#include "versions.h"

namespace d2export::runtime::trt {
namespace {

void* opened(const std::string& name) {
    void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) {
        const char* const why = dlerror();
        throw misfit("cannot open TensorRT: " + std::string(why == nullptr ? name : why),
                     "Install TensorRT, or name its " + library_name() +
                         ": this d2export::runtime was built with the headers of " +
                         headers_version() + ".");
    }
    return library;
}

template <typename Function>
Function* symbol(void* library, const char* name) {
    void* const found = dlsym(library, name);
    if (found == nullptr) {
        throw misfit(std::string("the library is not TensorRT: it has no ") + name,
                     "Name " + library_name() + ".");
    }
    return reinterpret_cast<Function*>(found);
}

}  // namespace

Library::Library(const std::string& path, const std::string& plugin,
                 std::shared_ptr<const Source> memory)
    : memory_(std::move(memory)) {
    void* const library = opened(path.empty() ? library_name() : path);
    const std::int32_t number = symbol<std::int32_t()>(library, "getInferLibVersion")();
    version_ = version_text(number);
    if (!fits_headers(number)) {
        throw misfit("the library is TensorRT " + version_ +
                         "; this d2export::runtime was built with the headers of " +
                         headers_version(),
                     "Build it with the headers of TensorRT " + version_ + ".");
    }
    const auto create = symbol<void*(void*, std::int32_t)>(library, "createInferRuntime_INTERNAL");
    Log& log = Log::only();
    log.clear();
    runtime_.reset(static_cast<nvinfer1::IRuntime*>(
        create(static_cast<nvinfer1::ILogger*>(&log), NV_TENSORRT_VERSION)));
    if (runtime_ == nullptr) {
        throw misfit("TensorRT " + version_ + " makes no runtime" + log.why(),
                     "Is the driver new enough for this TensorRT? d2export doctor says.");
    }
    if (memory_->callers() != nullptr) {
        allocator_ = allocator_of(memory_->callers());
        runtime_->setGpuAllocator(allocator_.get());
    }
    if (!plugin.empty()) {
        load_plugin(library, plugin);
    }
}

Library::~Library() {
    const Current current(memory_->gpu());
    runtime_.reset();  // in the CUDA context that it was made in
}

// The registry belongs to the process: a library that was loaded before is in it.
void Library::load_plugin(void* library, const std::string& plugin) const {
    static std::mutex mutex;
    static std::set<std::string> loaded;
    const std::lock_guard<std::mutex> lock(mutex);
    if (loaded.count(plugin) > 0) {
        return;
    }
    auto* const registry = symbol<nvinfer1::IPluginRegistry*()>(library, "getPluginRegistry")();
    Log::only().clear();
    if (registry->loadLibrary(plugin.c_str()) == nullptr) {
        throw misfit(
            "TensorRT " + version_ + " cannot load the plugin " + plugin + Log::only().why(),
            "Name libd2export_plugin.so, built for this TensorRT and this GPU: "
            "docs/plugin.md.");
    }
    loaded.insert(plugin);
}

}  // namespace d2export::runtime::trt
