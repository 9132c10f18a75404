// The op on the GPU as functions of plain C, for scripts that call it from Python. Pointers are
// device memory.

#include "d2export/cuda.h"

#define D2EXPORT_EXPORT extern "C" __attribute__((visibility("default")))

D2EXPORT_EXPORT std::size_t d2export_workspace_bytes(const d2export::Shape* shape,
                                                     const d2export::Parameters* parameters) {
    return d2export::cuda::workspace_bytes(*shape, *parameters);
}

// Returns null, or what CUDA says is wrong with the launch.
D2EXPORT_EXPORT const char* d2export_prune(const d2export::Shape* shape,
                                           const d2export::Inputs* inputs,
                                           const d2export::Parameters* parameters, void* kept,
                                           std::int32_t* indices, void* workspace, void* stream) {
    const cudaError_t status = d2export::cuda::prune(*shape, *inputs, *parameters, kept, indices,
                                                     workspace, static_cast<cudaStream_t>(stream));
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}
