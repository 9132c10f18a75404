#include <algorithm>

#include "d2export/cuda.h"
#include "kernel.h"
#include "problem.h"

namespace d2export::cuda {
namespace {

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

// Blocks that have work in some phase, of one picture.
std::int64_t useful_blocks(Rule rule, const Problem& problem) noexcept {
    if (rule == Rule::kD2) {
        return std::int64_t{kTile} * 2;
    }
    const std::int64_t rows = problem.side / kRowTile;
    const std::int64_t tiles = rows * (rows + 1) * (kRowTile / kColumnTile) / 2;
    return std::max<std::int64_t>(tiles, problem.side / kRowsAtOnce);
}

}  // namespace

template <typename Attributes>
std::string fault(const Shape& shape) {
    if (shape.tokens > kMaxTokens) {
        return excess(std::to_string(shape.tokens) + " tokens", kMaxTokens);
    }
    if (shape.channels > kMaxChannels) {
        return excess(std::to_string(shape.channels) + " channels", kMaxChannels);
    }
    const std::int64_t tokens = std::max(shape.tokens, 0);
    const std::int64_t side =
        std::max<std::int64_t>((tokens + kRowTile - 1) / kRowTile, 1) * kRowTile;
    const std::int64_t batch_limit = rule_of(Attributes{}) == Rule::kD2
                                         ? kMaxItems / std::max<std::int64_t>(tokens, kTile)
                                         : kMaxPairs / (side * side);
    if (shape.batch > batch_limit) {
        return excess("a batch of " + std::to_string(shape.batch) + " pictures of " +
                          std::to_string(shape.tokens) + " tokens",
                      batch_limit) +
               " of them; split the batch";
    }
    return {};
}

template <typename Attributes>
std::size_t workspace_bytes(const Shape& shape, const Attributes& attributes) noexcept {
    std::size_t bytes = 0;
    lay_out(shape, DataType::kFloat32, attributes, nullptr, &bytes);
    return bytes + kAlignment - 1;
}

template <typename Attributes>
cudaError_t prepare(DataType type) noexcept {
    cudaFuncAttributes known{};
    return taken(cudaFuncGetAttributes(&known, kernel_of(rule_of(Attributes{}), type)));
}

template <typename Attributes>
cudaError_t prune(const Shape& shape, const Inputs& inputs, const Attributes& attributes,
                  void* kept, std::int32_t* indices, void* workspace,
                  cudaStream_t stream) noexcept {
    if (shape.batch == 0 || shape.tokens == 0) {
        return cudaSuccess;
    }
    Problem problem = lay_out(shape, inputs.type, attributes, aligned(workspace), nullptr);
    problem.inputs = inputs;
    problem.kept = kept;
    problem.indices = indices;
    const Rule rule = rule_of(attributes);
    const void* const kernel = kernel_of(rule, inputs.type);
    // All blocks of a cooperative launch run at once: no more than fit, and no more than have work.
    std::int64_t resident = 0;
    cudaError_t status = count_resident(kernel, &resident);
    if (status != cudaSuccess) {
        return status;
    }
    const std::int64_t useful = shape.batch * useful_blocks(rule, problem);
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

#define D2EXPORT_OP(Attributes)                                                       \
    template std::string fault<Attributes>(const Shape&);                             \
    template std::size_t workspace_bytes(const Shape&, const Attributes&) noexcept;   \
    template cudaError_t prepare<Attributes>(DataType) noexcept;                      \
    template cudaError_t prune(const Shape&, const Inputs&, const Attributes&, void*, \
                               std::int32_t*, void*, cudaStream_t) noexcept;
D2EXPORT_OP(Parameters)
D2EXPORT_OP(MaxMinParameters)
D2EXPORT_OP(DppParameters)
D2EXPORT_OP(DeduplicateParameters)
#undef D2EXPORT_OP

}  // namespace d2export::cuda
