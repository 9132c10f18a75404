// Registers the plugin by being loaded, for tools that only dlopen (polygraphy --plugins). It finds
// libd2export_plugin.so beside itself, and the TensorRT that its process has loaded already.

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <string>

namespace {

// libnvinfer of this process, whatever its visibility.
nvinfer1::IPluginRegistry* find_registry() noexcept {
    using GetRegistry = nvinfer1::IPluginRegistry* (*)();
    void* address = dlsym(RTLD_DEFAULT, "getPluginRegistry");
    if (address == nullptr) {
        const std::string name = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
        void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD);
        address = library == nullptr ? nullptr : dlsym(library, "getPluginRegistry");
    }
    return address == nullptr ? nullptr : reinterpret_cast<GetRegistry>(address)();
}

std::string beside(const char* name) {
    Dl_info self{};
    if (dladdr(reinterpret_cast<void*>(&find_registry), &self) == 0) {
        return name;
    }
    const std::string path = self.dli_fname;
    return path.substr(0, path.rfind('/') + 1) + name;
}

__attribute__((constructor)) void load_plugin() noexcept {
    nvinfer1::IPluginRegistry* const registry = find_registry();
    if (registry == nullptr) {
        std::fprintf(stderr,
                     "libd2export_plugin_register.so: no TensorRT %d is loaded in this process; "
                     "import or link TensorRT first\n",
                     NV_TENSORRT_MAJOR);
        return;
    }
    const std::string plugin = beside("libd2export_plugin.so");
    if (registry->loadLibrary(plugin.c_str()) == nullptr) {
        std::fprintf(stderr,
                     "libd2export_plugin_register.so: TensorRT could not load %s; its log says "
                     "why\n",
                     plugin.c_str());
    }
}

}  // namespace
