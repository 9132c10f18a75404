// Phase 2: a token's rank is how many keys are smaller. N^2 comparisons, but all at once, and
// without the shared memory that a sort of 16,384 keys would need. The first ranks are the pivots.
#pragma once

#include "block.h"

namespace d2export::cuda {

struct RankShared {
    std::int32_t smaller_keys[kRowsAtOnce][kPartsOfRow];
};

template <typename Block>
D2EXPORT_PHASE void rank(Block& block, const Problem& problem) {
    if (problem.wanted == problem.shape.tokens) {
        return;
    }
    auto& shared = block.template shared<RankShared>();
    const std::int32_t tokens = problem.shape.tokens;
    const std::int32_t items_of_one = divide_up(tokens, kRowsAtOnce);
    const std::int32_t items = problem.shape.batch * items_of_one;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        const std::int32_t b = item / items_of_one;
        const std::int32_t first = item % items_of_one * kRowsAtOnce;
        const std::uint64_t* const keys =
            problem.workspace.keys + static_cast<std::int64_t>(b) * tokens;
        block.each([&](std::int32_t thread) {
            const std::int32_t mine = thread / kPartsOfRow;
            const std::int32_t part = thread % kPartsOfRow;
            if (first + mine < tokens) {
                const std::uint64_t key = keys[first + mine];
                std::int32_t count = 0;
                D2EXPORT_UNROLL(16)  // as many loads on their way
                for (std::int32_t i = part; i < tokens; i += kPartsOfRow) {
                    count += keys[i] < key ? 1 : 0;
                }
                shared.smaller_keys[mine][part] = count;
            }
        });
        block.each([&](std::int32_t thread) {
            const std::int32_t token = first + thread;
            if (thread >= kRowsAtOnce || token >= tokens) {
                return;
            }
            std::int32_t rank = 0;
            for (std::int32_t part = 0; part < kPartsOfRow; ++part) {
                rank += shared.smaller_keys[thread][part];
            }
            problem.workspace.order[static_cast<std::int64_t>(b) * tokens + rank] = token;
            if (rank < problem.pivots) {
                block.set_bits(problem.workspace.stays +
                                   static_cast<std::int64_t>(b) * problem.words + token / kWord,
                               1U << token % kWord);
            }
        });
    }
}

}  // namespace d2export::cuda
