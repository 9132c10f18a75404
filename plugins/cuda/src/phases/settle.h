// Phase 6 of a prompt: which visual tokens go, as bits over its positions.
#pragma once

#include "block.h"
#include "segments.h"

namespace d2export::cuda {

struct SettleShared {
    std::int32_t better[kRowsAtOnce][kPartsOfRow];  // tokens that stay rather
};

D2EXPORT_HOST_DEVICE bool stays_in(const PromptProblem& problem, const Segment& segment,
                                   std::int32_t token) {
    return (problem.workspace.stays[segment.word + token / kWord] >> token % kWord & 1U) != 0U;
}

template <typename Block>
D2EXPORT_PHASE void drop(Block& block, const PromptProblem& problem, const Segment& segment,
                         std::int32_t token) {
    const std::int32_t position = position_of(problem, segment.first + token);
    block.set_bits(problem.gone + position / kWord, 1U << position % kWord);
}

// Tokens of all images that stay rather than `token`: those that their image chose first, by rank.
// Every kPartsOfRow-th of each image, from `part` on.
D2EXPORT_HOST_DEVICE std::int32_t count_better(const PromptProblem& problem, const Segment& segment,
                                               std::int32_t token, std::int32_t part) {
    const std::uint64_t* const keys = problem.workspace.keys;
    const std::uint64_t key = keys[segment.first + token];
    const bool chosen = stays_in(problem, segment, token);
    std::int32_t count = 0;
    for (std::int32_t b = 0; b < problem.shape.batch; ++b) {
        const Segment other = segment_of(problem, b);
        for (std::int32_t i = part; i < other.tokens; i += kPartsOfRow) {
            const bool other_chosen = stays_in(problem, other, i);
            const bool before = other_chosen == chosen ? keys[other.first + i] < key : other_chosen;
            count += before ? 1 : 0;
        }
    }
    return count;
}

// Where the images' choices do not add up to n: the first n of all tokens, those chosen before.
template <typename Block>
D2EXPORT_PHASE void settle_rows(Block& block, const PromptProblem& problem, std::int32_t b,
                                std::int32_t first) {
    auto& shared = block.template shared<SettleShared>();
    const Segment segment = segment_of(problem, b);
    block.each([&](std::int32_t thread) {
        const std::int32_t mine = thread / kPartsOfRow;
        const std::int32_t part = thread % kPartsOfRow;
        if (first + mine < segment.tokens) {
            shared.better[mine][part] = count_better(problem, segment, first + mine, part);
        }
    });
    block.each([&](std::int32_t thread) {
        if (thread < kRowsAtOnce && first + thread < segment.tokens) {
            std::int32_t better = 0;
            for (const std::int32_t count : shared.better[thread]) {
                better += count;
            }
            if (better >= problem.wanted) {
                drop(block, problem, segment, first + thread);
            }
        }
    });
}

template <typename Block>
D2EXPORT_PHASE void settle(Block& block, const PromptProblem& problem) {
    if (*problem.left != 0) {
        share_out(block, problem, kRowsAtOnce, [&](std::int32_t b, std::int32_t item) {
            settle_rows(block, problem, b, item * kRowsAtOnce);
        });
        return;
    }
    share_out(block, problem, kThreads, [&](std::int32_t b, std::int32_t item) {
        const Segment segment = segment_of(problem, b);
        block.each([&](std::int32_t thread) {
            const std::int32_t token = item * kThreads + thread;
            if (token < segment.tokens && !stays_in(problem, segment, token)) {
                drop(block, problem, segment, token);
            }
        });
    });
}

}  // namespace d2export::cuda
