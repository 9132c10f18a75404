// Where the tokens of a picture are: of a batch, in which all pictures have as many, or of a
// prompt. The phases of D2Prune know no other difference between the two.
#pragma once

#include "block.h"
#include "tile.h"

namespace d2export::cuda {

D2EXPORT_HOST_DEVICE Segment segment_of(const Problem& problem, std::int32_t b) noexcept {
    const std::int64_t before = b;
    return {before * problem.shape.tokens,
            before * problem.words,
            before * problem.capacity,
            before * problem.splits * kTile * problem.pitch,
            problem.shape.tokens,
            problem.pivots,
            problem.pitch};
}

D2EXPORT_HOST_DEVICE Segment segment_of(const PromptProblem& problem, std::int32_t b) noexcept {
    return problem.segments[b];
}

// Where a visual token is in the prompt: never outside, whatever the input says.
D2EXPORT_HOST_DEVICE std::int32_t position_of(const PromptProblem& problem, std::int64_t token) {
    const std::int64_t position = problem.visual_positions[token];
    const std::int64_t last = problem.length - 1;
    return static_cast<std::int32_t>(position < 0 ? 0 : position < last ? position : last);
}

// Rows of a picture's tokens, and which of them is that of a token.
template <typename T>
D2EXPORT_HOST_DEVICE Rows<T> rows_of(const Problem& problem, std::int32_t b) noexcept {
    return {feature_row<T>(problem, b, 0), problem.shape.channels};
}

template <typename T>
D2EXPORT_HOST_DEVICE Rows<T> rows_of(const PromptProblem& problem, std::int32_t) noexcept {
    return {static_cast<const T*>(problem.inputs.features), problem.shape.channels};
}

D2EXPORT_HOST_DEVICE std::int32_t row_of(const Problem&, const Segment&, std::int32_t token) {
    return token;
}

D2EXPORT_HOST_DEVICE std::int32_t row_of(const PromptProblem& problem, const Segment& segment,
                                         std::int32_t token) {
    return position_of(problem, segment.first + token);
}

// A picture's canvas: the centres of its tokens, and the diagonal.
D2EXPORT_HOST_DEVICE const float* grid_of(const Problem& problem, const Segment&) noexcept {
    return problem.inputs.grid;
}

D2EXPORT_HOST_DEVICE const float* grid_of(const PromptProblem& problem,
                                          const Segment& segment) noexcept {
    return problem.inputs.grid + 2 * segment.first;
}

D2EXPORT_HOST_DEVICE float diagonal_of(const Problem& problem, std::int32_t) noexcept {
    return *problem.workspace.diagonal;
}

D2EXPORT_HOST_DEVICE float diagonal_of(const PromptProblem& problem, std::int32_t b) noexcept {
    return problem.workspace.diagonal[b];
}

// Calls work(b, item) for divide_up(tokens, step) items of each picture, shared among the blocks.
template <typename Block, typename Work>
D2EXPORT_PHASE void share_out(Block& block, const Problem& problem, std::int32_t step,
                              const Work& work) {
    const std::int32_t items_of_one = divide_up(problem.shape.tokens, step);
    const std::int32_t items = problem.shape.batch * items_of_one;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        work(item / items_of_one, item % items_of_one);
    }
}

template <typename Block, typename Work>
D2EXPORT_PHASE void share_out(Block& block, const PromptProblem& problem, std::int32_t step,
                              const Work& work) {
    std::int32_t next = block.index();  // the item of this block, counted from picture b on
    for (std::int32_t b = 0; b < problem.shape.batch; ++b) {
        const std::int32_t items = divide_up(problem.segments[b].tokens, step);
        for (; next < items; next += block.count()) {
            work(b, next);
        }
        next -= items;
    }
}

}  // namespace d2export::cuda
