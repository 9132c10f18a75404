#include "d2export/select.h"

#include <algorithm>

#include "d2export/rules.h"
#include "pictures.h"
#include "ranking.h"
#include "scores.h"
#include "scratch.h"
#include "walk.h"

namespace d2export {
namespace {

struct Work {
    Scratch scratch;
    float* scores;        // [N]
    std::uint64_t* keys;  // [N], rules::rank_key
    std::uint8_t* stays;  // [N]
    Walk walk;

    Work(const Shape& shape, std::int32_t joining, void* memory) noexcept
        : scratch(memory),
          scores(scratch.take<float>(static_cast<std::size_t>(shape.tokens))),
          keys(scratch.take<std::uint64_t>(static_cast<std::size_t>(shape.tokens))),
          stays(scratch.take<std::uint8_t>(static_cast<std::size_t>(shape.tokens))),
          walk(joining, shape.channels, scratch) {}
};

// Tokens that a candidate may have to be compared with: the members of the independent set, and
// the pivots where they block.
std::int32_t joining(const Shape& shape, const Parameters& parameters) noexcept {
    const std::int32_t kept = parameters.kept(shape.tokens);
    if (kept == shape.tokens) {
        return 0;
    }
    return parameters.pivots_block ? kept : kept - parameters.pivots(kept);
}

// r = mean over heads / (prior + eps), as keys.
void score(const Shape& shape, const float* importance, const float* prior, float eps,
           const Work& work) noexcept {
    mean_over_heads(shape, importance, work.scores);
    for (std::int32_t i = 0; i < shape.tokens; ++i) {
        const float r = rules::debias(work.scores[i], prior[i], eps);
        work.keys[i] = rules::rank_key(r, static_cast<std::uint32_t>(i));
    }
}

float diagonal_of(const float* grid, std::int32_t tokens) noexcept {
    float low_x = grid[0], high_x = grid[0], low_y = grid[1], high_y = grid[1];
    for (std::int32_t i = 1; i < tokens; ++i) {
        grid += 2;
        low_x = std::min(low_x, grid[0]);
        high_x = std::max(high_x, grid[0]);
        low_y = std::min(low_y, grid[1]);
        high_y = std::max(high_y, grid[1]);
    }
    return rules::diagonal(high_x - low_x, high_y - low_y);
}

// Marks the tokens of one picture that stay.
void select_one(const Shape& shape, const Inputs& inputs, const Picture& picture,
                const Parameters& parameters, Work& work) noexcept {
    score(shape, picture.importance, inputs.prior, parameters.eps, work);
    const std::int32_t wanted = parameters.kept(shape.tokens);
    const std::int32_t pivots = parameters.pivots(wanted);
    Ranking ranking(work.keys, shape.tokens, pivots);
    for (std::int32_t rank = 0; rank < pivots; ++rank) {
        work.stays[ranking.pivot(rank)] = 1;
    }
    if (pivots == wanted) {
        return;
    }

    const Neighbourhood neighbourhood{picture.features, picture.type,
                                      inputs.grid,      diagonal_of(inputs.grid, shape.tokens),
                                      parameters.alpha, parameters.theta};
    Walk& walk = work.walk;
    walk.start(neighbourhood);
    for (std::int32_t rank = 0; parameters.pivots_block && rank < pivots; ++rank) {
        walk.admit(ranking.pivot(rank));
    }
    std::int32_t missing = wanted - pivots;
    for (std::int32_t rank = pivots; missing > 0 && rank < shape.tokens;) {
        const std::int32_t batch = std::min(missing, Walk::kBatch);
        for (; walk.proposed() < batch && rank < shape.tokens; ++rank) {
            walk.propose(ranking.residual(rank, missing));
        }
        walk.decide([&](std::int32_t token) {
            work.stays[token] = 1;
            return --missing > 0;
        });
    }
    // The independent set ran out: fill by importance.
    for (std::int32_t rank = pivots; missing > 0; ++rank) {
        std::uint8_t& stays = work.stays[ranking.residual(rank, missing)];
        missing -= stays == 0 ? 1 : 0;
        stays = 1;
    }
}

}  // namespace

std::size_t scratch_bytes(const Shape& shape, const Parameters& parameters) noexcept {
    const Work work(shape, joining(shape, parameters), nullptr);
    return work.scratch.taken();
}

void select(const Shape& shape, const Inputs& inputs, const Parameters& parameters,
            std::int32_t* indices, void* scratch) noexcept {
    const std::int32_t kept = parameters.kept(shape.tokens);
    if (kept == shape.tokens) {
        keep_all(shape, indices);
        return;
    }
    Work work(shape, joining(shape, parameters), scratch);
    select_each(shape, inputs, work.stays, indices, [&](const Picture& picture) {
        select_one(shape, inputs, picture, parameters, work);
    });
}

}  // namespace d2export
