#include <algorithm>

#include "d2export/cuda.h"
#include "kernel.h"
#include "launch.h"
#include "problem.h"

namespace d2export::cuda {
namespace {

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
        return excess("features has " + std::to_string(shape.tokens) + " tokens", kMaxTokens);
    }
    if (shape.channels > kMaxChannels) {
        return excess("features has " + std::to_string(shape.channels) + " channels", kMaxChannels);
    }
    const std::int64_t tokens = std::max(shape.tokens, 0);
    const std::int64_t side =
        std::max<std::int64_t>((tokens + kRowTile - 1) / kRowTile, 1) * kRowTile;
    const std::int64_t batch_limit = rule_of(Attributes{}) == Rule::kD2
                                         ? kMaxItems / std::max<std::int64_t>(tokens, kTile)
                                         : kMaxPairs / (side * side);
    if (shape.batch > batch_limit) {
        return excess("features has a batch of " + std::to_string(shape.batch) + " pictures of " +
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
    return as_returned(cudaFuncGetAttributes(&known, kernel_of(rule_of(Attributes{}), type)));
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
    return launch(kernel, shape.batch * useful_blocks(rule, problem), &problem, stream);
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
template cudaError_t prepare<PositionsParameters>(DataType) noexcept;

}  // namespace d2export::cuda
