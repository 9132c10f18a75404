// Phase 2: a token's rank is how many keys are smaller. N^2 comparisons, but all at once, and
// without the shared memory that a sort of 16,384 keys would need. The first ranks are the pivots.
#pragma once

#include "block.h"
#include "fill.h"
#include "segments.h"

namespace d2export::cuda {

struct RankShared {
    std::int32_t smaller_keys[kRowsAtOnce][kPartsOfRow];
};

template <typename Block, typename Where>
D2EXPORT_PHASE void rank_rows(Block& block, const Where& problem, std::int32_t b,
                              std::int32_t first) {
    auto& shared = block.template shared<RankShared>();
    const Segment segment = segment_of(problem, b);
    const std::int32_t tokens = segment.tokens;
    const std::uint64_t* const keys = problem.workspace.keys + segment.first;
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
        problem.workspace.order[segment.first + rank] = token;
        if (rank < segment.pivots) {
            mark(block, problem, b, token);
        }
    });
}

template <typename Block, typename Where>
D2EXPORT_PHASE void rank(Block& block, const Where& problem) {
    if (problem.wanted == problem.shape.tokens) {
        return;
    }
    share_out(block, problem, kRowsAtOnce, [&](std::int32_t b, std::int32_t item) {
        rank_rows(block, problem, b, item * kRowsAtOnce);
    });
}

}  // namespace d2export::cuda
