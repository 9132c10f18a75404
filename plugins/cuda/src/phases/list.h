// Last phase of a prompt: the positions that survive, ascending.
#pragma once

#include "block.h"

namespace d2export::cuda {

struct ListShared {
    std::int32_t counts[kThreads];
    std::int32_t before;  // positions gone, in the words before the item's
};

template <typename Block>
D2EXPORT_PHASE void list_all(Block& block, const PromptProblem& problem) {
    block.each([&](std::int32_t thread) {
        for (std::int32_t i = block.index() * kThreads + thread; i < problem.surviving;
             i += block.count() * kThreads) {
            problem.positions[i] = i;
        }
    });
}

// kThreads positions from `first` on. Where the inputs are not what they should be, fewer may be
// gone than expected: the last that survive are left out then.
template <typename Block>
D2EXPORT_PHASE void list_item(Block& block, const PromptProblem& problem, std::int32_t first) {
    auto& shared = block.template shared<ListShared>();
    const std::int32_t word = first / kWord;
    block.each([&](std::int32_t thread) {
        std::int32_t count = 0;
        for (std::int32_t w = thread; w < word; w += kThreads) {
            count += ones(problem.gone[w]);
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
        const std::int32_t position = first + thread;
        if (position >= problem.length) {
            return;
        }
        const std::uint32_t bit = 1U << position % kWord;
        const std::uint32_t bits = problem.gone[position / kWord];
        std::int32_t gone = shared.before + ones(bits & (bit - 1U));
        for (std::int32_t w = word; w < position / kWord; ++w) {
            gone += ones(problem.gone[w]);
        }
        if ((bits & bit) == 0U && position - gone < problem.surviving) {
            problem.positions[position - gone] = position;
        }
    });
}

template <typename Block>
D2EXPORT_PHASE void list_positions(Block& block, const PromptProblem& problem) {
    const std::int32_t items = divide_up(problem.length, kThreads);
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        list_item(block, problem, item * kThreads);
    }
}

}  // namespace d2export::cuda
