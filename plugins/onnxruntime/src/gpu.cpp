#include <cstdint>

#include "d2export/cuda.h"
#include "kernel.h"
#include "scratch.h"

namespace d2export::onnxruntime {
namespace {

constexpr std::uintptr_t kTensorAlignment = 16;
constexpr std::uintptr_t kWorkspaceAlignment = 256;

void require_aligned(const char* name, const void* memory) {
    if (reinterpret_cast<std::uintptr_t>(memory) % kTensorAlignment != 0) {
        throw Failure(std::string(name) + " does not start at a multiple of " +
                      std::to_string(kTensorAlignment) +
                      " bytes; bind device memory as cudaMalloc returns it");
    }
}

void* aligned(void* memory) noexcept {
    const std::uintptr_t over = reinterpret_cast<std::uintptr_t>(memory) % kWorkspaceAlignment;
    return static_cast<unsigned char*>(memory) + (kWorkspaceAlignment - over) % kWorkspaceAlignment;
}

}  // namespace

void prune_on_gpu(const Call& call) {
    const Shape& shape = call.arguments.shape;
    const Inputs& inputs = call.arguments.inputs;
    const std::string fault = cuda::fault(shape);
    if (!fault.empty()) {
        throw Failure(fault);
    }
    require_aligned("features", inputs.features);
    require_aligned("kept", call.kept);
    void* stream = nullptr;
    check(call.api, call.api.KernelContext_GetGPUComputeStream(&call.context, &stream));

    const std::size_t bytes = cuda::workspace_bytes(shape, call.parameters) + kWorkspaceAlignment;
    const Scratch scratch = Scratch::on_gpu(call, bytes);
    const cudaError_t error =
        cuda::prune(shape, inputs, call.parameters, call.kept, call.indices,
                    aligned(scratch.data()), static_cast<cudaStream_t>(stream));
    if (error != cudaSuccess) {
        throw Failure(std::string("CUDA could not start D2Prune: ") + cudaGetErrorString(error),
                      ORT_EP_FAIL);
    }
}

}  // namespace d2export::onnxruntime
