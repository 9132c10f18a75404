// A CUDA runtime whose GPU is the host: a launch runs the kernel's phases right away, on pointers
// of the host. The plugin's code around it is the real one.

#include <cuda_runtime_api.h>

#include "../cuda/host_kernel.h"

using d2export::cuda::HostKernel;

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }

const char* cudaGetErrorString(cudaError_t) { return "what an acted runtime says"; }

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 3;  // processors
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int,
                                                          std::size_t) {
    *blocks = 1;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return cudaSuccess; }

cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 blocks, dim3, void** arguments,
                                        std::size_t, cudaStream_t) {
    const auto run = reinterpret_cast<HostKernel>(const_cast<void*>(kernel));
    run(arguments[0], static_cast<std::int32_t>(blocks.x));
    return cudaSuccess;
}

}  // extern "C"
