// MaxMinPrune: one block per picture picks, again and again, the token whose nearest kept token is
// farthest. The first is the one farthest from its nearest neighbour.
#pragma once

#include "fill.h"
#include "least.h"

namespace d2export::cuda {

inline constexpr std::int32_t kBatch = 8;  // tokens of a thread at a time

template <typename Block>
D2EXPORT_PHASE void spread_one(Block& block, const Problem& problem, std::int32_t b) {
    auto& shared = block.template shared<LeastShared<std::uint64_t>>();
    const std::int32_t tokens = problem.shape.tokens;
    float* const nearest = problem.workspace.nearest + static_cast<std::int64_t>(b) * tokens;
    std::int32_t last = -1;  // the token picked
    for (std::int32_t step = 0; step < problem.wanted; ++step) {
        const float* const row = pairs_of(problem, b, larger(last, 0));
        find_least(block, shared, [&](std::int32_t thread) {
            float least = INFINITY;  // which kept tokens have
            std::int32_t token = -1;
            for (std::int32_t start = thread; start < tokens; start += kBatch * kThreads) {
                float before[kBatch], to_last[kBatch];  // all loads are on their way together
                D2EXPORT_UNROLL(kBatch)
                for (std::int32_t k = 0; k < kBatch; ++k) {
                    const std::int32_t i = smaller(start + k * kThreads, tokens - 1);
                    before[k] = nearest[i];
                    to_last[k] = row[i];
                }
                D2EXPORT_UNROLL(kBatch)
                for (std::int32_t k = 0; k < kBatch; ++k) {
                    const std::int32_t i = start + k * kThreads;
                    const float nearer = fmaxf(before[k], i == last ? INFINITY : to_last[k]);
                    const float cosine = step == 0 ? before[k] : nearer;
                    token = i < tokens && cosine < least ? i : token;
                    least = i < tokens ? fminf(least, cosine) : least;
                    if (i < tokens) {  // from step 1 on, with kept ones only
                        nearest[i] = step == 0 ? -INFINITY : cosine;
                    }
                }
            }
            return token < 0 ? kNoKey : rules::rank_key(-least, static_cast<std::uint32_t>(token));
        });
        last = index_of(shared.least);
        block.each([&](std::int32_t thread) {
            if (thread == 0) {
                mark(block, problem, b, last);
            }
        });
    }
}

template <typename Block>
D2EXPORT_PHASE void spread(Block& block, const Problem& problem) {
    for (std::int32_t b = block.index(); b < problem.shape.batch; b += block.count()) {
        spread_one(block, problem, b);
    }
}

}  // namespace d2export::cuda
