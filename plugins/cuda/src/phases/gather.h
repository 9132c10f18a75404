// Phase 6: the ids of the tokens that stay, ascending, and their rows.
#pragma once

#include "block.h"

namespace d2export::cuda {

inline constexpr std::int32_t kGatheredAtOnce = 8;  // tokens of one item of work

struct GatherShared {
    std::int32_t counts[kThreads];
    std::int32_t before;  // tokens that stay, in the words before the item's
};

struct alignas(kVector) Vector {
    std::uint32_t words[4];
};

// Copies `count` elements, all threads of the block together.
template <typename T>
D2EXPORT_HOST_DEVICE void copy_together(const T* from, T* to, std::int64_t count,
                                        std::int32_t thread) {
    for (std::int64_t i = thread; i < count; i += kThreads) {
        to[i] = from[i];
    }
}

D2EXPORT_HOST_DEVICE void copy_row(const void* from, void* to, std::int64_t bytes,
                                   std::int32_t thread) {
    if (bytes % kVector == 0) {
        copy_together(static_cast<const Vector*>(from), static_cast<Vector*>(to), bytes / kVector,
                      thread);
    } else {  // rows that do not start at multiples of 16 bytes
        copy_together(static_cast<const Half*>(from), static_cast<Half*>(to), bytes / 2, thread);
    }
}

template <typename Block>
D2EXPORT_PHASE void gather_item(Block& block, const Problem& problem, std::int32_t b,
                                std::int32_t first) {
    auto& shared = block.template shared<GatherShared>();
    const std::uint32_t* const stays =
        problem.workspace.stays + static_cast<std::int64_t>(b) * problem.words;
    const std::int32_t word = first / kWord;
    block.each([&](std::int32_t thread) {
        std::int32_t count = 0;
        for (std::int32_t w = thread; w < word; w += kThreads) {
            count += ones(stays[w]);
        }
        shared.counts[thread] = count;
    });
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            std::int32_t before = 0;
            for (std::int32_t i = 0; i < smaller(word, kThreads); ++i) {
                before += shared.counts[i];
            }
            shared.before = before;
        }
    });
    block.each([&](std::int32_t thread) {
        const std::int64_t bytes = problem.row_bytes;
        const auto* const from = static_cast<const unsigned char*>(problem.inputs.features) +
                                 static_cast<std::int64_t>(b) * problem.shape.tokens * bytes;
        auto* const to = static_cast<unsigned char*>(problem.kept);
        for (std::int32_t token = first; token < first + kGatheredAtOnce; ++token) {
            const std::uint32_t bit = 1U << token % kWord;
            if ((stays[word] & bit) != 0U) {
                const std::int64_t place = static_cast<std::int64_t>(b) * problem.wanted +
                                           shared.before + ones(stays[word] & (bit - 1U));
                copy_row(from + token * bytes, to + place * bytes, bytes, thread);
                if (thread == 0) {
                    problem.indices[place] = token;
                }
            }
        }
    });
}

template <typename Block>
D2EXPORT_PHASE void gather_rows(Block& block, const Problem& problem) {
    const std::int32_t items_of_one = divide_up(problem.shape.tokens, kGatheredAtOnce);
    const std::int32_t items = problem.shape.batch * items_of_one;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        gather_item(block, problem, item / items_of_one, item % items_of_one * kGatheredAtOnce);
    }
}

}  // namespace d2export::cuda
