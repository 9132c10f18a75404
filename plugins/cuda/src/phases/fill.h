// Tokens that stay, as bits; and the most important ones where a walk ends early.
#pragma once

#include "block.h"
#include "segments.h"

namespace d2export::cuda {

struct FillShared {
    std::int32_t free_before[kThreads];  // tokens not staying, in the ranks of the threads before
};

template <typename Block, typename Where>
D2EXPORT_PHASE void mark(Block& block, const Where& problem, std::int32_t b, std::int32_t token) {
    block.set_bits(problem.workspace.stays + segment_of(problem, b).word + token / kWord,
                   1U << token % kWord);
}

// The walk found too few: the best of the rest, by rank, until none is missing.
template <typename Block, typename Where>
D2EXPORT_PHASE void fill(Block& block, const Where& problem, std::int32_t b, std::int32_t missing) {
    auto& shared = block.template shared<FillShared>();
    const Segment segment = segment_of(problem, b);
    const std::int32_t tokens = segment.tokens;
    const std::int32_t* const order = problem.workspace.order + segment.first;
    // Volatile: in the last step other threads of the block set other bits of the words it reads.
    const volatile std::uint32_t* const stays = problem.workspace.stays + segment.word;
    const std::int32_t slice = divide_up(tokens - segment.pivots, kThreads);
    const auto is_free = [&](std::int32_t rank) {
        return (stays[order[rank] / kWord] >> order[rank] % kWord & 1U) == 0U;
    };
    block.each([&](std::int32_t thread) {
        const std::int32_t first = segment.pivots + thread * slice;
        std::int32_t count = 0;
        for (std::int32_t rank = first; rank < smaller(first + slice, tokens); ++rank) {
            count += is_free(rank) ? 1 : 0;
        }
        shared.free_before[thread] = count;
    });
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            std::int32_t sum = 0;
            for (std::int32_t& place : shared.free_before) {
                const std::int32_t count = place;
                place = sum;
                sum += count;
            }
        }
    });
    // Threads share words of bits, but each asks about and marks the tokens of its own slice only.
    block.each([&](std::int32_t thread) {
        const std::int32_t first = segment.pivots + thread * slice;
        std::int32_t found = shared.free_before[thread];
        for (std::int32_t rank = first; rank < smaller(first + slice, tokens) && found < missing;
             ++rank) {
            if (is_free(rank)) {
                mark(block, problem, b, order[rank]);
                ++found;
            }
        }
    });
}

}  // namespace d2export::cuda
