// Phase 1: scores as keys, the canvas's diagonal, and everything a walk starts from.
#pragma once

#include "block.h"

namespace d2export::cuda {

struct ScoreShared {
    float low_x[kThreads], high_x[kThreads], low_y[kThreads], high_y[kThreads];
};

// Diagonal of the bounding box of all token centres, of which there is one at least.
template <typename Block>
D2EXPORT_PHASE void measure_canvas(Block& block, const float* grid, std::int32_t tokens,
                                   float* diagonal) {
    auto& shared = block.template shared<ScoreShared>();
    block.each([&](std::int32_t thread) {
        const std::int32_t first = smaller(thread, tokens - 1);
        float low_x = grid[2 * first], high_x = low_x;
        float low_y = grid[2 * first + 1], high_y = low_y;
        for (std::int32_t i = thread; i < tokens; i += kThreads) {
            low_x = fminf(low_x, grid[2 * i]);
            high_x = fmaxf(high_x, grid[2 * i]);
            low_y = fminf(low_y, grid[2 * i + 1]);
            high_y = fmaxf(high_y, grid[2 * i + 1]);
        }
        shared.low_x[thread] = low_x;
        shared.high_x[thread] = high_x;
        shared.low_y[thread] = low_y;
        shared.high_y[thread] = high_y;
    });
    for (std::int32_t half = kThreads / 2; half > 0; half /= 2) {
        block.each([&](std::int32_t thread) {
            if (thread < half) {
                const std::int32_t other = thread + half;
                shared.low_x[thread] = fminf(shared.low_x[thread], shared.low_x[other]);
                shared.high_x[thread] = fmaxf(shared.high_x[thread], shared.high_x[other]);
                shared.low_y[thread] = fminf(shared.low_y[thread], shared.low_y[other]);
                shared.high_y[thread] = fmaxf(shared.high_y[thread], shared.high_y[other]);
            }
        });
    }
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            *diagonal = rules::diagonal(rules::add(shared.high_x[0], -shared.low_x[0]),
                                        rules::add(shared.high_y[0], -shared.low_y[0]));
        }
    });
}

// The mean over heads, from a token's importance of the first head on; the next is `step` behind.
D2EXPORT_HOST_DEVICE float mean_over_heads(const float* a, std::int32_t heads, std::int32_t step) {
    float sum = *a;
    for (std::int32_t head = 1; head < heads; ++head) {
        a += step;
        sum = rules::add(sum, *a);
    }
    return rules::divide(sum, static_cast<float>(heads));
}

// Importance of one token.
D2EXPORT_HOST_DEVICE float mean_importance(const Problem& problem, std::int32_t b,
                                           std::int32_t token) {
    const Shape& shape = problem.shape;
    const std::int64_t first = static_cast<std::int64_t>(b) * shape.heads * shape.tokens;
    return mean_over_heads(problem.inputs.importance + first + token, shape.heads, shape.tokens);
}

// No token stays yet; or all do.
template <typename Block>
D2EXPORT_PHASE void clear_stays(Block& block, const Problem& problem) {
    const bool all_stay = problem.wanted == problem.shape.tokens;
    block.each([&](std::int32_t thread) {
        const std::int32_t words = problem.shape.batch * problem.words;
        for (std::int32_t i = block.index() * kThreads + thread; i < words;
             i += block.count() * kThreads) {
            const std::int32_t left = problem.shape.tokens - i % problem.words * kWord;
            const std::uint32_t all = left >= kWord ? ~0U : (1U << left) - 1U;
            problem.workspace.stays[i] = all_stay ? all : 0U;
        }
    });
}

// What the ops with importance start from: `score(b, token)` of each token, as a key and, where the
// op needs it, as a number.
template <typename Block, typename Score>
D2EXPORT_PHASE void start(Block& block, const Problem& problem, const Score& score) {
    clear_stays(block, problem);
    if (problem.wanted == problem.shape.tokens) {
        return;
    }
    const Workspace& workspace = problem.workspace;
    block.each([&](std::int32_t thread) {
        const std::int32_t tokens = problem.shape.batch * problem.shape.tokens;
        for (std::int32_t i = block.index() * kThreads + thread; i < tokens;
             i += block.count() * kThreads) {
            const std::int32_t token = i % problem.shape.tokens;
            const float value = score(i / problem.shape.tokens, token);
            workspace.keys[i] = rules::rank_key(value, static_cast<std::uint32_t>(token));
            if (workspace.scores != nullptr) {
                workspace.scores[i] = value;
            }
        }
    });
}

// r = importance / (prior + eps) of each token, and everything the walk starts from.
template <typename Block>
D2EXPORT_PHASE void score(Block& block, const Problem& problem) {
    const Workspace& workspace = problem.workspace;
    const std::int32_t missing =
        problem.wanted == problem.shape.tokens ? 0 : problem.wanted - problem.pivots;
    start(block, problem, [&](std::int32_t b, std::int32_t token) {
        return rules::debias(mean_importance(problem, b, token), problem.inputs.prior[token],
                             problem.eps);
    });
    block.each([&](std::int32_t thread) {
        const std::int32_t threads = block.count() * kThreads;
        const std::int32_t first = block.index() * kThreads;
        for (std::int32_t b = first + thread; b < problem.shape.batch; b += threads) {
            workspace.progress[b] = Progress{problem.pivots_block ? 0 : problem.pivots, 0, missing};
        }
        if (first + thread == 0) {
            *workspace.open = missing > 0 ? problem.shape.batch : 0;
        }
    });
    if (block.index() == block.count() - 1 && missing > 0) {
        measure_canvas(block, problem.inputs.grid, problem.shape.tokens,
                       problem.workspace.diagonal);
    }
}

}  // namespace d2export::cuda
