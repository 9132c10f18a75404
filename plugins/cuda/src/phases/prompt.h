// Phase 1 and 2 of a prompt: scores as keys, where each image's tokens are, the canvases'
// diagonals, and everything the walks start from.
#pragma once

#include "block.h"
#include "score.h"
#include "segments.h"

namespace d2export::cuda {

// One thread finds how the arrays are divided among the images, which are few. What is not a
// length, or more than there are tokens, counts as one that fits: nothing is read or written
// outside.
D2EXPORT_HOST_DEVICE void divide_among_images(const PromptProblem& problem) {
    const Workspace& workspace = problem.workspace;
    Segment next{};
    std::int32_t left = problem.wanted;
    std::int32_t open = 0;
    for (std::int32_t b = 0; b < problem.shape.batch; ++b) {
        const std::int64_t length = problem.image_lengths[b];
        const std::int64_t room = problem.shape.tokens - next.first;
        next.tokens = static_cast<std::int32_t>(length < 0 ? 0 : length < room ? length : room);
        const std::int32_t kept = rules::kept(next.tokens, problem.keep, problem.keep_permille);
        const bool all_stay = kept == next.tokens;
        next.pivots = all_stay ? kept : rules::share_of(problem.pivot_ratio, kept);
        const std::int32_t missing = kept - next.pivots;
        const std::int32_t capacity = missing == 0 ? 0 : problem.pivots_block ? kept : missing;
        next.pitch = missing == 0 ? 0 : divide_up(capacity, kColumnTile) * kColumnTile + kTile;
        problem.segments[b] = next;
        workspace.progress[b] = Progress{problem.pivots_block ? 0 : next.pivots, 0, missing};

        next.first += next.tokens;
        next.word += divide_up(next.tokens, kWord);
        next.panel += capacity;
        next.products += static_cast<std::int64_t>(next.pitch) * kTile * problem.splits;
        left -= kept;
        open += missing > 0 ? 1 : 0;
    }
    *problem.left = left;
    *workspace.open = open;
}

template <typename Block>
D2EXPORT_PHASE void start_prompt(Block& block, const PromptProblem& problem) {
    const Workspace& workspace = problem.workspace;
    block.each([&](std::int32_t thread) {
        const std::int32_t threads = block.count() * kThreads;
        const std::int32_t first = block.index() * kThreads + thread;
        for (std::int32_t i = first; i < problem.words; i += threads) {
            workspace.stays[i] = 0;
        }
        for (std::int32_t i = first; i < divide_up(problem.length, kWord); i += threads) {
            problem.gone[i] = 0;
        }
        for (std::int32_t i = first; i < problem.shape.tokens; i += threads) {
            const float a = mean_over_heads(problem.inputs.importance + position_of(problem, i),
                                            problem.shape.heads, problem.length);
            const float r = rules::debias(a, problem.inputs.prior[i], problem.eps);
            workspace.keys[i] = rules::rank_key(r, static_cast<std::uint32_t>(i));
        }
        if (first == threads - 1) {
            divide_among_images(problem);
        }
    });
}

// The diagonals of the images that are walked through.
template <typename Block>
D2EXPORT_PHASE void measure_canvases(Block& block, const PromptProblem& problem) {
    for (std::int32_t b = block.index(); b < problem.shape.batch; b += block.count()) {
        if (problem.workspace.progress[b].missing > 0) {
            const Segment segment = segment_of(problem, b);
            measure_canvas(block, grid_of(problem, segment), segment.tokens,
                           problem.workspace.diagonal + b);
        }
    }
}

}  // namespace d2export::cuda
