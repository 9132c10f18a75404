// DppPrune's quality of a token: where its importance lies between the least and the largest.
#pragma once

#include "block.h"

namespace d2export::cuda {

// What importance is measured against.
struct ScoreRange {
    float minus, plus;  // what infinities are replaced by
    float low, high;    // of the scores, then
};

struct RangeShared {
    float low[kThreads], high[kThreads];  // of the finite scores
    std::uint32_t infinities;             // bit 0: there is -infinity, bit 1: +infinity
};

// From the range of the finite scores; where there is none, `low` is above `high`.
D2EXPORT_HOST_DEVICE ScoreRange range_of(float low, float high, std::uint32_t infinities) noexcept {
    if (low <= high) {
        return {low, high, rules::finite_score(low, low, high),
                rules::finite_score(high, low, high)};
    }
    return {-1.0F, 1.0F, (infinities & 1U) != 0U ? -1.0F : 1.0F,
            (infinities & 2U) != 0U ? 1.0F : -1.0F};
}

D2EXPORT_HOST_DEVICE float quality_of(float score, const ScoreRange& range) noexcept {
    return rules::quality(rules::finite_score(score, range.minus, range.plus), range.low,
                          range.high);
}

// The range of one picture's scores, for all threads.
template <typename Block>
D2EXPORT_PHASE ScoreRange find_range(Block& block, const Problem& problem, std::int32_t b) {
    auto& shared = block.template shared<RangeShared>();
    const std::int32_t tokens = problem.shape.tokens;
    const float* const scores = problem.workspace.scores + static_cast<std::int64_t>(b) * tokens;
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            shared.infinities = 0;
        }
    });
    block.each([&](std::int32_t thread) {
        float low = INFINITY, high = -INFINITY;
        std::uint32_t infinities = 0;
        for (std::int32_t i = thread; i < tokens; i += kThreads) {
            const float score = scores[i];
            infinities |= score == -INFINITY ? 1U : score == INFINITY ? 2U : 0U;
            if (fabsf(score) <= rules::kLargestFinite) {
                low = fminf(low, score);
                high = fmaxf(high, score);
            }
        }
        shared.low[thread] = low;
        shared.high[thread] = high;
        if (infinities != 0U) {
            block.set_bits(&shared.infinities, infinities);
        }
    });
    for (std::int32_t half = kThreads / 2; half > 0; half /= 2) {
        block.each([&](std::int32_t thread) {
            if (thread < half) {
                shared.low[thread] = fminf(shared.low[thread], shared.low[thread + half]);
                shared.high[thread] = fmaxf(shared.high[thread], shared.high[thread + half]);
            }
        });
    }
    const ScoreRange range = range_of(shared.low[0], shared.high[0], shared.infinities);
    block.each([](std::int32_t) {});  // until all have read it
    return range;
}

}  // namespace d2export::cuda
