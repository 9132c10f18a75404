#include <algorithm>

#include "d2export/cuda.h"
#include "kernel.h"
#include "problem.h"

namespace d2export::cuda {
namespace {

// Tokens of all pictures together, a picture counted as no less than a tile: the kernel counts
// them, and strides over them, in 32 bits.
constexpr std::int64_t kMaxItems = std::int64_t{1} << 30;

// What a call of CUDA returned. An error is the caller's from here on; left behind as the thread's
// last error, it would seem to be that of the next launch, whose ever that is.
cudaError_t taken(cudaError_t status) noexcept {
    if (status != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
    }
    return status;
}

// How many blocks of the kernel the current GPU runs at once: more than none.
cudaError_t count_resident(const void* kernel, std::int64_t* blocks) noexcept {
    int device = 0;
    int processors = 0;
    int of_each = 0;
    cudaError_t status = taken(cudaGetDevice(&device));
    if (status == cudaSuccess) {
        status = taken(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    }
    if (status == cudaSuccess) {
        status =
            taken(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kernel, kThreads, 0));
    }
    *blocks = static_cast<std::int64_t>(processors) * of_each;
    return status == cudaSuccess && *blocks < 1 ? cudaErrorInvalidConfiguration : status;
}

// Where the arrays of a workspace start.
void* aligned(void* memory) noexcept {
    const std::uintptr_t over = reinterpret_cast<std::uintptr_t>(memory) % kAlignment;
    return static_cast<unsigned char*>(memory) + (kAlignment - over) % kAlignment;
}

std::string excess(const std::string& found, std::int64_t limit) {
    return "features has " + found + ", expected at most " + std::to_string(limit);
}

}  // namespace

std::string fault(const Shape& shape) {
    if (shape.tokens > kMaxTokens) {
        return excess(std::to_string(shape.tokens) + " tokens", kMaxTokens);
    }
    if (shape.channels > kMaxChannels) {
        return excess(std::to_string(shape.channels) + " channels", kMaxChannels);
    }
    const std::int64_t batch_limit = kMaxItems / std::max(shape.tokens, kTile);
    if (shape.batch > batch_limit) {
        return excess("a batch of " + std::to_string(shape.batch) + " pictures of " +
                          std::to_string(shape.tokens) + " tokens",
                      batch_limit) +
               " of them; split the batch";
    }
    return {};
}

std::size_t workspace_bytes(const Shape& shape, const Parameters& parameters) noexcept {
    std::size_t bytes = 0;
    lay_out(shape, DataType::kFloat32, parameters, nullptr, &bytes);
    return bytes + kAlignment - 1;
}

cudaError_t prepare(DataType type) noexcept {
    cudaFuncAttributes attributes{};
    return taken(cudaFuncGetAttributes(&attributes, kernel_of(type)));
}

cudaError_t prune(const Shape& shape, const Inputs& inputs, const Parameters& parameters,
                  void* kept, std::int32_t* indices, void* workspace,
                  cudaStream_t stream) noexcept {
    if (shape.batch == 0 || shape.tokens == 0) {
        return cudaSuccess;
    }
    Problem problem = lay_out(shape, inputs.type, parameters, aligned(workspace), nullptr);
    problem.inputs = inputs;
    problem.kept = kept;
    problem.indices = indices;
    const void* const kernel = kernel_of(inputs.type);
    // All blocks of a cooperative launch run at once: no more than fit, and no more than have work.
    std::int64_t resident = 0;
    cudaError_t status = count_resident(kernel, &resident);
    if (status != cudaSuccess) {
        return status;
    }
    const std::int64_t useful = static_cast<std::int64_t>(shape.batch) * kTile * 2;
    auto blocks = static_cast<unsigned>(std::min(useful, resident));
    void* arguments[] = {&problem};
    // Where the GPU is shared (by MPS, say) fewer fit than it says; any number gives the answer.
    status = cudaErrorCooperativeLaunchTooLarge;
    for (; status == cudaErrorCooperativeLaunchTooLarge && blocks > 0; blocks /= 2) {
        status = taken(cudaLaunchCooperativeKernel(kernel, dim3(blocks), dim3(kThreads), arguments,
                                                   0, stream));
    }
    return status;
}

}  // namespace d2export::cuda
