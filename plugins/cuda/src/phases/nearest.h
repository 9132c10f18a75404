// MaxMinPrune, before the walk: each token's largest cosine with another one.
#pragma once

#include "block.h"
#include "pairs.h"

namespace d2export::cuda {

struct NearestShared {
    float largest[kRowsAtOnce][kPartsOfRow + 1];  // so that rows start in other banks
};

template <typename Block>
D2EXPORT_PHASE void find_nearest(Block& block, const Problem& problem) {
    auto& shared = block.template shared<NearestShared>();
    const std::int32_t tokens = problem.shape.tokens;
    const std::int32_t items_of_one = divide_up(tokens, kRowsAtOnce);
    const std::int32_t items = problem.shape.batch * items_of_one;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        const std::int32_t b = item / items_of_one;
        const std::int32_t first = item % items_of_one * kRowsAtOnce;
        block.each([&](std::int32_t thread) {
            const std::int32_t mine = thread / kPartsOfRow;
            const std::int32_t part = thread % kPartsOfRow;
            if (first + mine < tokens) {
                const float* const row = pairs_of(problem, b, first + mine);
                float largest = -INFINITY;
                D2EXPORT_UNROLL(16)  // as many loads on their way
                for (std::int32_t i = part; i < tokens; i += kPartsOfRow) {
                    const float cosine = row[i];
                    largest = fmaxf(largest, i == first + mine ? -INFINITY : cosine);
                }
                shared.largest[mine][part] = largest;
            }
        });
        block.each([&](std::int32_t thread) {
            if (thread < kRowsAtOnce && first + thread < tokens) {
                float largest = -INFINITY;
                for (std::int32_t part = 0; part < kPartsOfRow; ++part) {
                    largest = fmaxf(largest, shared.largest[thread][part]);
                }
                problem.workspace.nearest[static_cast<std::int64_t>(b) * tokens + first + thread] =
                    largest;
            }
        });
    }
}

}  // namespace d2export::cuda
