#include "choice.h"

#include <algorithm>

#include "d2export/rules.h"
#include "ranking.h"

namespace d2export {
namespace {

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

}  // namespace

std::int32_t joining(std::int32_t tokens, const Parameters& parameters) noexcept {
    const std::int32_t kept = parameters.kept(tokens);
    if (kept == tokens) {
        return 0;
    }
    return parameters.pivots_block ? kept : kept - parameters.pivots(kept);
}

void choose(Neighbourhood neighbourhood, std::uint64_t* keys, std::int32_t tokens,
            const Parameters& parameters, Walk& walk, std::uint8_t* stays) noexcept {
    const std::int32_t wanted = parameters.kept(tokens);
    const std::int32_t pivots = parameters.pivots(wanted);
    Ranking ranking(keys, tokens, pivots);
    for (std::int32_t rank = 0; rank < pivots; ++rank) {
        stays[ranking.pivot(rank)] = 1;
    }
    if (pivots == wanted) {
        return;
    }

    neighbourhood.diagonal = diagonal_of(neighbourhood.grid, tokens);
    walk.start(neighbourhood);
    for (std::int32_t rank = 0; parameters.pivots_block && rank < pivots; ++rank) {
        walk.admit(ranking.pivot(rank));
    }
    std::int32_t missing = wanted - pivots;
    for (std::int32_t rank = pivots; missing > 0 && rank < tokens;) {
        const std::int32_t batch = std::min(missing, Walk::kBatch);
        for (; walk.proposed() < batch && rank < tokens; ++rank) {
            walk.propose(ranking.residual(rank, missing));
        }
        walk.decide([&](std::int32_t token) {
            stays[token] = 1;
            return --missing > 0;
        });
    }
    // The independent set ran out: fill by importance.
    for (std::int32_t rank = pivots; missing > 0; ++rank) {
        std::uint8_t& stays_already = stays[ranking.residual(rank, missing)];
        missing -= stays_already == 0 ? 1 : 0;
        stays_already = 1;
    }
}

}  // namespace d2export
