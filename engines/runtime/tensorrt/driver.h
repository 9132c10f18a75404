// CUDA's driver, opened while the program runs: the functions that are needed of it.
#pragma once

#include <cuda.h>

namespace d2export::runtime::trt {

// Names are those of <cuda.h> without `cu`.
struct Driver {
    // Opened once, and never closed. Throws an Error where there is none.
    static const Driver& open();

    decltype(&::cuInit) init;
    decltype(&::cuGetErrorName) get_error_name;
    decltype(&::cuDeviceGetCount) device_get_count;
    decltype(&::cuDeviceGet) device_get;
    decltype(&::cuDeviceGetName) device_get_name;
    decltype(&::cuDeviceGetAttribute) device_get_attribute;
    decltype(&::cuDeviceTotalMem) device_total_mem;
    decltype(&::cuDevicePrimaryCtxRetain) primary_context_retain;
    decltype(&::cuDevicePrimaryCtxRelease) primary_context_release;
    decltype(&::cuCtxPushCurrent) context_push;
    decltype(&::cuCtxPopCurrent) context_pop;
    decltype(&::cuCtxGetDevice) context_get_device;
    decltype(&::cuMemAlloc) mem_alloc;
    decltype(&::cuMemFree) mem_free;
    decltype(&::cuMemHostAlloc) mem_host_alloc;
    decltype(&::cuMemFreeHost) mem_free_host;
    decltype(&::cuMemcpyAsync) memcpy_async;
    decltype(&::cuStreamCreate) stream_create;
    decltype(&::cuStreamDestroy) stream_destroy;
    decltype(&::cuStreamSynchronize) stream_synchronize;
    decltype(&::cuStreamGetCtx) stream_get_context;
    decltype(&::cuStreamBeginCapture) stream_begin_capture;
    decltype(&::cuStreamEndCapture) stream_end_capture;
    decltype(&::cuGraphInstantiateWithFlags) graph_instantiate;
    decltype(&::cuGraphLaunch) graph_launch;
    decltype(&::cuGraphDestroy) graph_destroy;
    decltype(&::cuGraphExecDestroy) graph_exec_destroy;
};

}  // namespace d2export::runtime::trt
