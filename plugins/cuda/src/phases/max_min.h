// MaxMinPrune: one block per picture picks, again and again, the token whose nearest kept token is
// farthest. The first is the one farthest from its nearest neighbour.
#pragma once

#include "fill.h"
#include "least.h"

namespace d2export::cuda {

template <typename Block>
D2EXPORT_PHASE void spread_one(Block& block, const Problem& problem, std::int32_t b) {
    auto& shared = block.template shared<LeastShared<std::uint64_t>>();
    const std::int32_t tokens = problem.shape.tokens;
    float* const __restrict__ nearest =
        problem.workspace.nearest + static_cast<std::int64_t>(b) * tokens;
    std::int32_t last = -1;  // the token picked
    for (std::int32_t step = 0; step < problem.wanted; ++step) {
        const float* const __restrict__ row = pairs_of(problem, b, larger(last, 0));
        find_least(block, shared, [&](std::int32_t thread) {
            std::uint64_t least = kNoKey;
            D2EXPORT_UNROLL(8)  // as many loads on their way
            for (std::int32_t i = thread; i < tokens; i += kThreads) {
                float cosine = nearest[i];
                if (step > 0) {
                    cosine = step == 1 ? row[i] : fmaxf(cosine, row[i]);
                    nearest[i] = cosine = i == last ? INFINITY : cosine;
                }
                least = lesser(least, rules::rank_key(-cosine, static_cast<std::uint32_t>(i)));
            }
            return least;
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
