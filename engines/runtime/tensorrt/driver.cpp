#include "driver.h"

#include <d2export/error.h>
#include <dlfcn.h>

#include <string>

namespace d2export::runtime::trt {
namespace {

constexpr const char* kName = "libcuda.so.1";

// As the preprocessor sees a name: <cuda.h> calls cuMemAlloc cuMemAlloc_v2.
#define D2EXPORT_EXPORTED(name) D2EXPORT_TEXT(name)
#define D2EXPORT_TEXT(name) #name

template <typename Function>
void load(void* library, const char* name, Function& function) {
    void* const found = dlsym(library, name);
    if (found == nullptr) {
        throw misfit(std::string("CUDA's driver, ") + kName + ", has no " + name,
                     "Install a newer driver: CUDA 11.4 or newer is needed.");
    }
    function = reinterpret_cast<Function>(found);
}

Driver loaded() {
    void* const library = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const why = dlerror();
        throw misfit("cannot open CUDA's driver: " + std::string(why == nullptr ? kName : why),
                     "Install NVIDIA's driver; in a container, start it with --runtime nvidia or "
                     "--gpus all.");
    }
    Driver driver{};
    load(library, D2EXPORT_EXPORTED(cuInit), driver.init);
    load(library, D2EXPORT_EXPORTED(cuGetErrorName), driver.get_error_name);
    load(library, D2EXPORT_EXPORTED(cuDeviceGetCount), driver.device_get_count);
    load(library, D2EXPORT_EXPORTED(cuDeviceGet), driver.device_get);
    load(library, D2EXPORT_EXPORTED(cuDeviceGetName), driver.device_get_name);
    load(library, D2EXPORT_EXPORTED(cuDeviceGetAttribute), driver.device_get_attribute);
    load(library, D2EXPORT_EXPORTED(cuDeviceTotalMem), driver.device_total_mem);
    load(library, D2EXPORT_EXPORTED(cuDevicePrimaryCtxRetain), driver.primary_context_retain);
    load(library, D2EXPORT_EXPORTED(cuDevicePrimaryCtxRelease), driver.primary_context_release);
    load(library, D2EXPORT_EXPORTED(cuCtxPushCurrent), driver.context_push);
    load(library, D2EXPORT_EXPORTED(cuCtxPopCurrent), driver.context_pop);
    load(library, D2EXPORT_EXPORTED(cuCtxGetDevice), driver.context_get_device);
    load(library, D2EXPORT_EXPORTED(cuMemAlloc), driver.mem_alloc);
    load(library, D2EXPORT_EXPORTED(cuMemFree), driver.mem_free);
    load(library, D2EXPORT_EXPORTED(cuMemHostAlloc), driver.mem_host_alloc);
    load(library, D2EXPORT_EXPORTED(cuMemFreeHost), driver.mem_free_host);
    load(library, D2EXPORT_EXPORTED(cuMemcpyAsync), driver.memcpy_async);
    load(library, D2EXPORT_EXPORTED(cuStreamCreate), driver.stream_create);
    load(library, D2EXPORT_EXPORTED(cuStreamDestroy), driver.stream_destroy);
    load(library, D2EXPORT_EXPORTED(cuStreamSynchronize), driver.stream_synchronize);
    load(library, D2EXPORT_EXPORTED(cuStreamGetCtx), driver.stream_get_context);
    load(library, D2EXPORT_EXPORTED(cuStreamBeginCapture), driver.stream_begin_capture);
    load(library, D2EXPORT_EXPORTED(cuStreamEndCapture), driver.stream_end_capture);
    load(library, D2EXPORT_EXPORTED(cuGraphInstantiateWithFlags), driver.graph_instantiate);
    load(library, D2EXPORT_EXPORTED(cuGraphLaunch), driver.graph_launch);
    load(library, D2EXPORT_EXPORTED(cuGraphDestroy), driver.graph_destroy);
    load(library, D2EXPORT_EXPORTED(cuGraphExecDestroy), driver.graph_exec_destroy);
    return driver;
}

}  // namespace

const Driver& Driver::open() {
    static const Driver driver = loaded();
    return driver;
}

}  // namespace d2export::runtime::trt
