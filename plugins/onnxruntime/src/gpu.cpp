#include "gpu.h"

#include <cstdint>
#include <string>

namespace d2export::onnxruntime {
namespace {

constexpr std::uintptr_t kTensorAlignment = 16;

}  // namespace

void Gpu::check(const char* what, const char* op, cudaError_t status) {
    if (status != cudaSuccess) {
        throw Failure(
            std::string("CUDA could not ") + what + " " + op + ": " + cudaGetErrorString(status),
            ORT_EP_FAIL);
    }
}

void Gpu::require_runnable(const std::string& fault) {
    if (!fault.empty()) {
        throw Failure(fault);
    }
}

void Gpu::require_aligned(const char* name, const void* memory) {
    if (reinterpret_cast<std::uintptr_t>(memory) % kTensorAlignment != 0) {
        throw Failure(std::string(name) + " does not start at a multiple of " +
                      std::to_string(kTensorAlignment) +
                      " bytes; bind device memory as cudaMalloc returns it");
    }
}

cudaStream_t Gpu::stream_of(const OrtApi& api, const OrtKernelContext& context) {
    void* stream = nullptr;
    onnxruntime::check(api, api.KernelContext_GetGPUComputeStream(&context, &stream));
    return static_cast<cudaStream_t>(stream);
}

}  // namespace d2export::onnxruntime
