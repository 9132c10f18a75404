// DppPrune: a team of blocks per picture picks, again and again, the token that adds most volume:
// q² times what is left of its direction outside the span of the kept ones.
//
// Each block keeps up to date the tokens of its own: what is left of each, and their rows of the
// Cholesky factor. After every pick it offers its best token to the team; the blocks meet, and all
// of them pick the best of the offers.
#pragma once

#include "cosine.h"
#include "fill.h"
#include "least.h"
#include "pairs.h"
#include "quality.h"
#include "team.h"

namespace d2export::cuda {

struct DppShared {
    LeastShared least;
    float sums[kRowsAtOnce][kPartsOfRow + 1];  // so that rows start in other banks
    Offer best[kRowsAtOnce];
};

// The token picked last; none in step 0.
struct Picked {
    std::int32_t token;
    float left;
};

D2EXPORT_HOST_DEVICE float* basis_of(const Problem& problem, std::int32_t b,
                                     std::int32_t token) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(b) * problem.shape.tokens + token;
    return problem.workspace.basis + row * problem.wanted;
}

D2EXPORT_HOST_DEVICE Offer* offers_of(const Problem& problem, std::int32_t b,
                                      std::int32_t step) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(step % 2) * problem.shape.batch + b;
    return problem.workspace.offers + row * divide_up(problem.shape.tokens, kRowsAtOnce);
}

// What makes a direction of each token.
template <typename Block>
D2EXPORT_PHASE void measure_lengths(Block& block, const Problem& problem) {
    const std::int32_t tokens = problem.shape.tokens;
    block.each([&](std::int32_t thread) {
        for (std::int32_t i = block.index() * kThreads + thread; i < problem.shape.batch * tokens;
             i += block.count() * kThreads) {
            problem.workspace.scale[i] =
                rules::direction_scale(pairs_of(problem, i / tokens, i % tokens)[i % tokens]);
        }
    });
}

// What is left of token `i` behind the `step`-th pick; `along` is its product with the basis of
// the picked one.
D2EXPORT_HOST_DEVICE float left_of(const Problem& problem, std::int32_t b, std::int32_t i,
                                   std::int32_t step, const Picked& picked, float along) {
    const std::int64_t place = static_cast<std::int64_t>(b) * problem.shape.tokens + i;
    if (step == 0) {  // exactly 1, lest rounding choose among equals
        return problem.workspace.scale[place] > 0 ? 1.0F : 0.0F;
    }
    const float* const scale = problem.workspace.scale + place - i;
    const float cosine =
        cosine_of(pairs_of(problem, b, picked.token)[i], scale[picked.token], scale[i]);
    const float value = rules::divide(rules::add(cosine, -along), rules::square_root(picked.left));
    basis_of(problem, b, i)[step - 1] = value;
    return i == picked.token
               ? 0.0F
               : rules::add(problem.workspace.left[place], -rules::multiply(value, value));
}

template <typename Block>
D2EXPORT_PHASE void offer_best(Block& block, const Problem& problem, const Team& team,
                               std::int32_t step, const Picked& picked, const ScoreRange& range) {
    auto& shared = block.template shared<DppShared>();
    const std::int32_t tokens = problem.shape.tokens;
    const std::int64_t start = static_cast<std::int64_t>(team.b) * tokens;
    const float* const __restrict__ basis = basis_of(problem, team.b, larger(picked.token, 0));
    block.each([&](std::int32_t thread) {
        if (thread < kRowsAtOnce) {
            shared.best[thread] = Offer{kNoKey, 0.0F};
        }
    });
    for (std::int32_t first = team.index * kRowsAtOnce; first < tokens;
         first += team.size * kRowsAtOnce) {
        block.each([&](std::int32_t thread) {
            const std::int32_t mine = thread / kPartsOfRow;
            const std::int32_t part = thread % kPartsOfRow;
            float sum = 0;
            if (first + mine < tokens) {
                const float* const __restrict__ row = basis_of(problem, team.b, first + mine);
                D2EXPORT_UNROLL(8)  // as many loads on their way
                for (std::int32_t s = part; s < step - 1; s += kPartsOfRow) {
                    sum = rules::add(sum, rules::multiply(row[s], basis[s]));
                }
            }
            shared.sums[mine][part] = sum;
        });
        block.each([&](std::int32_t thread) {
            const std::int32_t i = first + thread;
            if (thread >= kRowsAtOnce || i >= tokens) {
                return;
            }
            float along = 0;
            for (std::int32_t part = 0; part < kPartsOfRow; ++part) {
                along = rules::add(along, shared.sums[thread][part]);
            }
            const float left = left_of(problem, team.b, i, step, picked, along);
            problem.workspace.left[start + i] = left;
            const float q = quality_of(problem.workspace.scores[start + i], range);
            const float gain = rules::gain(q, left);
            const std::uint64_t key =
                gain < 0 ? kNoKey : rules::rank_key(gain, static_cast<std::uint32_t>(i));
            if (key < shared.best[thread].key) {
                shared.best[thread] = Offer{key, left};
            }
        });
    }
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            Offer best = shared.best[0];
            for (const Offer& offer : shared.best) {
                best = offer.key < best.key ? offer : best;
            }
            offers_of(problem, team.b, step)[team.index] = best;
        }
    });
}

template <typename Block, typename Meet>
D2EXPORT_PHASE void widen_one(Block& block, const Problem& problem, const Team& team,
                              const Meet& meet) {
    auto& shared = block.template shared<DppShared>();
    bool open = team.b >= 0;
    const ScoreRange range = open ? find_range(block, problem, team.b) : ScoreRange{};
    Picked picked{-1, 0.0F};
    for (std::int32_t step = 0; step < problem.wanted; ++step) {
        if (open) {
            offer_best(block, problem, team, step, picked, range);
        }
        meet();
        if (!open) {
            continue;
        }
        const Offer* const offers = offers_of(problem, team.b, step);
        find_least(block, shared.least, [&](std::int32_t thread) {
            std::uint64_t least = kNoKey;
            for (std::int32_t i = thread; i < team.size; i += kThreads) {
                least = lesser(least, offers[i].key);
            }
            return least;
        });
        open = shared.least.least != kNoKey;
        picked.token = index_of(shared.least.least);
        if (open) {
            picked.left = offers[picked.token / kRowsAtOnce % team.size].left;
        }
        if (team.index > 0) {
            continue;
        }
        if (open) {
            block.each([&](std::int32_t thread) {
                if (thread == 0) {
                    mark(block, problem, team.b, picked.token);
                }
            });
        } else {  // nothing is left of any token
            fill(block, problem, team.b, problem.wanted - step);
        }
    }
}

template <typename Block, typename Meet>
D2EXPORT_PHASE void widen(Block& block, const Problem& problem, const Meet& meet) {
    in_teams(block, problem, [&](const Team& team) { widen_one(block, problem, team, meet); });
}

}  // namespace d2export::cuda
