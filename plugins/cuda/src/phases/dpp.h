// DppPrune: a team of blocks per picture picks, again and again, the token that adds most volume:
// q² times what is left of its direction outside the span of the kept ones, in float64.
//
// Each block keeps up to date the tokens of its own: what is left of each, and their rows of the
// Cholesky factor. After every pick it offers its best token to the team; the blocks meet, and all
// of them pick the best of the offers.
#pragma once

#include "fill.h"
#include "least.h"
#include "pairs.h"
#include "quality.h"
#include "team.h"

namespace d2export::cuda {

inline constexpr Gain kNoGain{-1.0, -1};  // less than that of any candidate

struct DppShared {
    LeastShared<Gain> most;
    double sums[kRowsAtOnce][kPartsOfRow + 1];  // so that rows start in other banks
    Offer best[kRowsAtOnce];
};

// The largest gain comes first, of equal ones the lowest token.
D2EXPORT_HOST_DEVICE bool operator<(const Gain& a, const Gain& b) noexcept {
    return a.gain != b.gain ? a.gain > b.gain : a.token < b.token;
}

// The token picked last; none in step 0.
struct Picked {
    std::int32_t token;
    double scale;  // what makes a unit vector of what was left of it
};

D2EXPORT_HOST_DEVICE double* basis_of(const Problem& problem, std::int32_t b,
                                      std::int32_t token) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(b) * problem.shape.tokens + token;
    return problem.workspace.basis + row * problem.wanted;
}

D2EXPORT_HOST_DEVICE Offer* offers_of(const Problem& problem, std::int32_t b,
                                      std::int32_t step) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(step % 2) * problem.shape.batch + b;
    return problem.workspace.offers + row * divide_up(problem.shape.tokens, kRowsAtOnce);
}

// What makes a unit vector of each direction; 0 where there is none.
template <typename Block>
D2EXPORT_PHASE void measure_lengths(Block& block, const Problem& problem) {
    const std::int32_t tokens = problem.shape.tokens;
    block.each([&](std::int32_t thread) {
        for (std::int32_t i = block.index() * kThreads + thread; i < problem.shape.batch * tokens;
             i += block.count() * kThreads) {
            const double squares = pairs_of(problem, i / tokens, i % tokens)[i % tokens];
            problem.workspace.scale[i] = squares > 0 ? 1.0 / sqrt(squares) : 0.0;
        }
    });
}

// What is left of token `i` behind so many picks; `along` is its product with the basis of the
// last one.
D2EXPORT_HOST_DEVICE double left_of(const Problem& problem, std::int32_t b, std::int32_t i,
                                    std::int32_t picks, const Picked& picked, double along) {
    const std::int64_t start = static_cast<std::int64_t>(b) * problem.shape.tokens;
    const double* const scale = problem.workspace.scale + start;
    if (picks == 0) {  // exactly 1, lest rounding choose among equals
        return scale[i] > 0 ? 1.0 : 0.0;
    }
    const double product = pairs_of(problem, b, picked.token)[i];
    const double cosine = product * scale[picked.token] * scale[i];
    const double value = (cosine - along) * picked.scale;
    basis_of(problem, b, i)[picks - 1] = value;
    return i == picked.token ? 0.0 : problem.workspace.left[start + i] - value * value;
}

template <typename Block>
D2EXPORT_PHASE void offer_best(Block& block, const Problem& problem, const Team& team,
                               std::int32_t picks, const Picked& picked, const ScoreRange& range) {
    auto& shared = block.template shared<DppShared>();
    const std::int32_t tokens = problem.shape.tokens;
    const std::int64_t start = static_cast<std::int64_t>(team.b) * tokens;
    const double* const __restrict__ basis = basis_of(problem, team.b, larger(picked.token, 0));
    block.each([&](std::int32_t thread) {
        if (thread < kRowsAtOnce) {
            shared.best[thread] = Offer{kNoGain, 0.0};
        }
    });
    for (std::int32_t first = team.index * kRowsAtOnce; first < tokens;
         first += team.size * kRowsAtOnce) {
        block.each([&](std::int32_t thread) {
            const std::int32_t mine = thread / kPartsOfRow;
            const std::int32_t part = thread % kPartsOfRow;
            double sum = 0;
            if (first + mine < tokens) {
                const double* const __restrict__ row = basis_of(problem, team.b, first + mine);
                D2EXPORT_UNROLL(8)  // as many loads on their way
                for (std::int32_t k = part; k < picks - 1; k += kPartsOfRow) {
                    sum += row[k] * basis[k];
                }
            }
            shared.sums[mine][part] = sum;
        });
        block.each([&](std::int32_t thread) {
            const std::int32_t i = first + thread;
            if (thread >= kRowsAtOnce || i >= tokens) {
                return;
            }
            double along = 0;
            for (std::int32_t part = 0; part < kPartsOfRow; ++part) {
                along += shared.sums[thread][part];
            }
            const double left = left_of(problem, team.b, i, picks, picked, along);
            problem.workspace.left[start + i] = left;
            const float quality = quality_of(problem.workspace.scores[start + i], range);
            const Gain gain{rules::gain(quality, left), i};
            if (gain.gain > 0 && gain < shared.best[thread].gain) {
                shared.best[thread] = Offer{gain, left};
            }
        });
    }
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            Offer best = shared.best[0];
            for (const Offer& offer : shared.best) {
                best = offer.gain < best.gain ? offer : best;
            }
            offers_of(problem, team.b, picks)[team.index] = best;
        }
    });
}

template <typename Block, typename Meet>
D2EXPORT_PHASE void widen_one(Block& block, const Problem& problem, const Team& team,
                              const Meet& meet) {
    auto& shared = block.template shared<DppShared>();
    bool open = team.b >= 0;
    const ScoreRange range = open ? find_range(block, problem, team.b) : ScoreRange{};
    Picked picked{-1, 0.0};
    for (std::int32_t picks = 0; picks < problem.wanted; ++picks) {
        if (open) {
            offer_best(block, problem, team, picks, picked, range);
        }
        meet();
        if (!open) {
            continue;
        }
        const Offer* const offers = offers_of(problem, team.b, picks);
        find_least(block, shared.most, [&](std::int32_t thread) {
            Gain most = kNoGain;
            for (std::int32_t i = thread; i < team.size; i += kThreads) {
                most = lesser(most, offers[i].gain);
            }
            return most;
        });
        picked.token = shared.most.least.token;
        open = picked.token >= 0;
        if (open) {
            picked.scale = 1.0 / sqrt(offers[picked.token / kRowsAtOnce % team.size].left);
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
            fill(block, problem, team.b, problem.wanted - picks);
        }
    }
}

template <typename Block, typename Meet>
D2EXPORT_PHASE void widen(Block& block, const Problem& problem, const Meet& meet) {
    in_teams(block, problem, [&](const Team& team) { widen_one(block, problem, team, meet); });
}

}  // namespace d2export::cuda
