// The ops on the GPU as functions of plain C, for scripts that call them from Python: two of each,
// `<name>_workspace_bytes` and `<name>_prune`. Pointers are device memory.

#include "d2export/cuda.h"
#include "d2export/cuda_positions.h"

// The second returns null, or what CUDA says is wrong with the launch.
#define D2EXPORT_OP(name, Attributes)                                                      \
    extern "C" __attribute__((visibility("default"))) std::size_t name##_workspace_bytes(  \
        const d2export::Shape* shape, const d2export::Attributes* attributes) {            \
        return d2export::cuda::workspace_bytes(*shape, *attributes);                       \
    }                                                                                      \
    extern "C" __attribute__((visibility("default")))                                      \
    const char* name##_prune(const d2export::Shape* shape, const d2export::Inputs* inputs, \
                             const d2export::Attributes* attributes, void* kept,           \
                             std::int32_t* indices, void* workspace, void* stream) {       \
        const cudaError_t status =                                                         \
            d2export::cuda::prune(*shape, *inputs, *attributes, kept, indices, workspace,  \
                                  static_cast<cudaStream_t>(stream));                      \
        return status == cudaSuccess ? nullptr : cudaGetErrorString(status);               \
    }
D2EXPORT_OP(d2export, Parameters)
D2EXPORT_OP(d2export_max_min, MaxMinParameters)
D2EXPORT_OP(d2export_dpp, DppParameters)
D2EXPORT_OP(d2export_deduplicate, DeduplicateParameters)

extern "C" __attribute__((visibility("default"))) std::size_t d2export_positions_workspace_bytes(
    const d2export::PromptShape* shape, const d2export::PositionsParameters* parameters) {
    return d2export::cuda::workspace_bytes(*shape, *parameters);
}

extern "C" __attribute__((visibility("default"))) const char* d2export_positions_select(
    const d2export::PromptShape* shape, const d2export::PromptInputs* inputs,
    const d2export::PositionsParameters* parameters, std::int32_t* positions, void* workspace,
    void* stream) {
    const cudaError_t status = d2export::cuda::select_positions(
        *shape, *inputs, *parameters, positions, workspace, static_cast<cudaStream_t>(stream));
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}
