// DeduplicatePrune: a team of blocks per picture thins out the tokens that are not important, in
// rounds. The token at each even place is compared with those at odd places; the most similar go.
//
// Every block knows the places of all tokens. In a round it finds the nearest of the tokens of its
// own; the blocks meet, and all of them remove the same ones.
#pragma once

#include "d2export/cuda_limits.h"
#include "fill.h"
#include "least.h"
#include "pairs.h"
#include "team.h"

namespace d2export::cuda {

// No place. It is even, so that nothing is compared with the token.
inline constexpr std::uint16_t kGone = 0xFFFE;
static_assert(kMaxTokens < kGone);

struct DeduplicateShared {
    std::uint16_t place[kMaxTokens];  // of each token, or kGone
    LeastShared<std::uint64_t> least;
    float nearest[kRowsAtOnce][kPartsOfRow + 1];  // so that rows start in other banks
    std::int32_t removed[rules::kRemovedAtOnce];  // places, halved
};

// One round, the same for all pictures.
struct Thinning {
    std::int32_t number;
    std::int32_t evens;    // tokens at even places
    std::int32_t surplus;  // of which so many go
};

// Of the tokens at even places, the keys: most similar to any at an odd place first, then by place.
D2EXPORT_HOST_DEVICE std::uint64_t* nearness_of(const Problem& problem, std::int32_t b,
                                                std::int32_t round) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(round % 2) * problem.shape.batch + b;
    return problem.workspace.nearness + row * divide_up(problem.shape.tokens, 2);
}

D2EXPORT_HOST_DEVICE bool is_even(std::uint16_t place) { return place % 2 == 0 && place != kGone; }

template <typename Block>
D2EXPORT_PHASE void find_nearness(Block& block, const Problem& problem, const Team& team,
                                  const Thinning& round) {
    auto& shared = block.template shared<DeduplicateShared>();
    const std::int32_t tokens = problem.shape.tokens;
    for (std::int32_t first = team.index * kRowsAtOnce; first < tokens;
         first += team.size * kRowsAtOnce) {
        block.each([&](std::int32_t thread) {
            const std::int32_t mine = thread / kPartsOfRow;
            const std::int32_t part = thread % kPartsOfRow;
            if (first + mine >= tokens || !is_even(shared.place[first + mine])) {
                return;
            }
            const float* const row = pairs_of(problem, team.b, first + mine);
            float nearest = -INFINITY;
            D2EXPORT_UNROLL(16)  // as many loads on their way
            for (std::int32_t i = part; i < tokens; i += kPartsOfRow) {
                const float cosine = row[i];
                nearest = fmaxf(nearest, shared.place[i] % 2 == 1 ? cosine : -INFINITY);
            }
            shared.nearest[mine][part] = nearest;
        });
        block.each([&](std::int32_t thread) {
            if (thread >= kRowsAtOnce || first + thread >= tokens ||
                !is_even(shared.place[first + thread])) {
                return;
            }
            float nearest = -INFINITY;
            for (std::int32_t part = 0; part < kPartsOfRow; ++part) {
                nearest = fmaxf(nearest, shared.nearest[thread][part]);
            }
            const std::uint32_t even = shared.place[first + thread] / 2U;
            nearness_of(problem, team.b, round.number)[even] = rules::rank_key(nearest, even);
        });
    }
}

// Where a token at `place` comes to lie: tokens that stay at even places, then those at odd ones.
D2EXPORT_HOST_DEVICE std::uint16_t place_behind(std::uint16_t place, const Thinning& round,
                                                const std::int32_t* removed) {
    if (place % 2 == 1) {
        return static_cast<std::uint16_t>(round.evens - round.surplus + place / 2);
    }
    std::int32_t behind = place / 2;
    for (std::int32_t k = 0; k < round.surplus; ++k) {
        if (removed[k] == place / 2) {
            return kGone;
        }
        behind -= removed[k] < place / 2 ? 1 : 0;
    }
    return static_cast<std::uint16_t>(behind);
}

template <typename Block>
D2EXPORT_PHASE void remove_nearest(Block& block, const Problem& problem, const Team& team,
                                   const Thinning& round) {
    auto& shared = block.template shared<DeduplicateShared>();
    const std::uint64_t* const keys = nearness_of(problem, team.b, round.number);
    typename Block::template PerThread<std::uint64_t> own{};  // the least of each thread's keys
    std::uint64_t last = kNoKey;                              // removed
    for (std::int32_t k = 0; k < round.surplus; ++k) {
        find_least(block, shared.least, [&](std::int32_t thread) {
            if (k == 0 || own.at(thread) == last) {
                std::uint64_t least = kNoKey;
                for (std::int32_t i = thread; i < round.evens; i += kThreads) {
                    least = k == 0 || keys[i] > last ? lesser(least, keys[i]) : least;
                }
                own.at(thread) = least;
            }
            return own.at(thread);
        });
        last = shared.least.least;
        block.each([&](std::int32_t thread) {
            if (thread == 0) {
                shared.removed[k] = index_of(last);
            }
        });
    }
    block.each([&](std::int32_t thread) {
        for (std::int32_t i = thread; i < problem.shape.tokens; i += kThreads) {
            if (shared.place[i] != kGone) {
                shared.place[i] = place_behind(shared.place[i], round, shared.removed);
            }
        }
    });
}

template <typename Block, typename Meet>
D2EXPORT_PHASE void thin_out_one(Block& block, const Problem& problem, const Team& team,
                                 const Meet& meet) {
    auto& shared = block.template shared<DeduplicateShared>();
    const std::int32_t tokens = problem.shape.tokens;
    if (team.b >= 0) {
        const std::int32_t* const order =
            problem.workspace.order + static_cast<std::int64_t>(team.b) * tokens;
        block.each([&](std::int32_t thread) {
            for (std::int32_t rank = thread; rank < tokens; rank += kThreads) {
                shared.place[order[rank]] = rank < problem.pivots
                                                ? kGone
                                                : static_cast<std::uint16_t>(rank - problem.pivots);
            }
        });
    }
    const std::int32_t missing = problem.wanted - problem.pivots;
    Thinning round{};
    for (std::int32_t rest = tokens - problem.pivots; rest > missing; rest -= round.surplus) {
        round.evens = divide_up(rest, 2);
        round.surplus = smaller(smaller(rules::kRemovedAtOnce, rest - missing), round.evens);
        if (team.b >= 0) {
            find_nearness(block, problem, team, round);
        }
        meet();
        if (team.b >= 0) {
            remove_nearest(block, problem, team, round);
        }
        ++round.number;
    }
    if (team.b >= 0 && team.index == 0) {
        block.each([&](std::int32_t thread) {
            for (std::int32_t i = thread; i < tokens; i += kThreads) {
                if (shared.place[i] != kGone) {
                    mark(block, problem, team.b, i);
                }
            }
        });
    }
}

template <typename Block, typename Meet>
D2EXPORT_PHASE void thin_out(Block& block, const Problem& problem, const Meet& meet) {
    in_teams(block, problem, [&](const Team& team) { thin_out_one(block, problem, team, meet); });
}

}  // namespace d2export::cuda
