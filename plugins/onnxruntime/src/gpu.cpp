#include <cstdint>

#include "d2export/cuda.h"
#include "kernel.h"
#include "scratch.h"

namespace d2export::onnxruntime {
namespace {

constexpr std::uintptr_t kTensorAlignment = 16;

void require_aligned(const char* name, const void* memory) {
    if (reinterpret_cast<std::uintptr_t>(memory) % kTensorAlignment != 0) {
        throw Failure(std::string(name) + " does not start at a multiple of " +
                      std::to_string(kTensorAlignment) +
                      " bytes; bind device memory as cudaMalloc returns it");
    }
}

// Throws what CUDA returned, if that is an error.
void check(const char* what, cudaError_t status) {
    if (status != cudaSuccess) {
        throw Failure(
            std::string("CUDA could not ") + what + " D2Prune: " + cudaGetErrorString(status),
            ORT_EP_FAIL);
    }
}

// CUDA may put off loading a kernel until its first launch, and that may be captured in a graph.
void load_on_gpu(DataType type) { check("load", cuda::prepare(type)); }

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
    onnxruntime::check(call.api,
                       call.api.KernelContext_GetGPUComputeStream(&call.context, &stream));

    const Scratch scratch = Scratch::on_gpu(call, cuda::workspace_bytes(shape, call.parameters));
    check("start", cuda::prune(shape, inputs, call.parameters, call.kept, call.indices,
                               scratch.data(), static_cast<cudaStream_t>(stream)));
}

}  // namespace

const Device kGpu{"CUDAExecutionProvider", load_on_gpu, prune_on_gpu};

}  // namespace d2export::onnxruntime
