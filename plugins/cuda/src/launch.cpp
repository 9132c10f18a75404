#include "launch.h"

#include <algorithm>

#include "problem.h"

namespace d2export::cuda {
namespace {

// How many blocks of the kernel the current GPU runs at once: more than none.
cudaError_t count_resident(const void* kernel, std::int64_t* blocks) noexcept {
    int device = 0;
    int processors = 0;
    int of_each = 0;
    cudaError_t status = as_returned(cudaGetDevice(&device));
    if (status == cudaSuccess) {
        status = as_returned(
            cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    }
    if (status == cudaSuccess) {
        status = as_returned(
            cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kernel, kThreads, 0));
    }
    *blocks = static_cast<std::int64_t>(processors) * of_each;
    return status == cudaSuccess && *blocks < 1 ? cudaErrorInvalidConfiguration : status;
}

}  // namespace

cudaError_t as_returned(cudaError_t status) noexcept {
    if (status != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
    }
    return status;
}

void* aligned(void* memory) noexcept {
    const std::uintptr_t over = reinterpret_cast<std::uintptr_t>(memory) % kAlignment;
    return static_cast<unsigned char*>(memory) + (kAlignment - over) % kAlignment;
}

std::string excess(const std::string& found, std::int64_t limit) {
    return found + ", expected at most " + std::to_string(limit);
}

cudaError_t launch(const void* kernel, std::int64_t useful, void* problem,
                   cudaStream_t stream) noexcept {
    // All blocks of a cooperative launch run at once: no more than fit, and no more than have work.
    std::int64_t resident = 0;
    cudaError_t status = count_resident(kernel, &resident);
    if (status != cudaSuccess) {
        return status;
    }
    auto blocks = static_cast<unsigned>(std::min(useful, resident));
    void* arguments[] = {problem};
    // Where the GPU is shared (by MPS, say) fewer fit than it says; any number gives the answer.
    status = cudaErrorCooperativeLaunchTooLarge;
    for (; status == cudaErrorCooperativeLaunchTooLarge && blocks > 0; blocks /= 2) {
        status = as_returned(cudaLaunchCooperativeKernel(kernel, dim3(blocks), dim3(kThreads),
                                                         arguments, 0, stream));
    }
    return status;
}

}  // namespace d2export::cuda
