// The phases of each op in their order, and the largest shared memory that any of them takes.
#pragma once

#include <type_traits>

#include "deduplicate.h"
#include "directions.h"
#include "dpp.h"
#include "edges.h"
#include "float_products.h"
#include "gather.h"
#include "list.h"
#include "max_min.h"
#include "nearest.h"
#include "products.h"
#include "prompt.h"
#include "rank.h"
#include "score.h"
#include "settle.h"
#include "walk.h"

namespace d2export::cuda {

union D2Shared {
    ScoreShared score;
    RankShared rank;
    ProductsShared products;
    EdgesShared edges;
    WalkShared walk;
    GatherShared gather;
};

union PositionsShared {
    ScoreShared score;
    RankShared rank;
    ProductsShared products;
    EdgesShared edges;
    WalkShared walk;
    SettleShared settle;
    ListShared list;
};

union PairsShared {
    RankShared rank;
    ProductsShared products;
    DirectionsShared directions;
    NearestShared nearest;
    LeastShared<std::uint64_t> max_min;
    RangeShared range;
    DppShared dpp;
    FillShared fill;
    DeduplicateShared deduplicate;
    GatherShared gather;
};

// The rounds of the walk. `meet` is a barrier of all blocks; what was written before it can be read
// behind it.
template <typename T, typename Block, typename Where, typename Meet>
D2EXPORT_PHASE void walk_in_rounds(Block& block, const Where& problem, const Meet& meet) {
    while (*static_cast<const volatile std::int32_t*>(problem.workspace.open) > 0) {
        multiply<T>(block, problem);
        meet();
        find_edges<T>(block, problem);
        meet();
        walk(block, problem);
        meet();
    }
}

template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void run_d2(Block& block, const Problem& problem, const Meet& meet) {
    score(block, problem);
    meet();
    rank(block, problem);
    meet();
    walk_in_rounds<T>(block, problem, meet);
    gather_rows(block, problem);
}

template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void run_positions(Block& block, const PromptProblem& problem, const Meet& meet) {
    if (!has_choice(problem)) {
        list_all(block, problem);
        return;
    }
    start_prompt(block, problem);
    meet();
    rank(block, problem);
    measure_canvases(block, problem);
    meet();
    walk_in_rounds<T>(block, problem, meet);
    settle(block, problem);
    meet();
    list_positions(block, problem);
}

// Whether any token is left to be found by more than its importance.
D2EXPORT_HOST_DEVICE bool has_walk(const Problem& problem) noexcept {
    return problem.wanted < problem.shape.tokens && problem.pivots < problem.wanted;
}

template <typename Block>
D2EXPORT_PHASE void start_by_importance(Block& block, const Problem& problem) {
    start(block, problem,
          [&](std::int32_t b, std::int32_t token) { return mean_importance(problem, b, token); });
}

// The products of all pairs of directions in whole numbers.
template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void multiply_directions(Block& block, const Problem& problem, const Meet& meet) {
    find_directions<T>(block, problem);
    meet();
    multiply_pairs(block, problem);
}

template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void run_max_min(Block& block, const Problem& problem, const Meet& meet) {
    clear_stays(block, problem);
    if (has_walk(problem)) {
        multiply_directions<T>(block, problem, meet);
        meet();
        find_nearest(block, problem);
        meet();
        spread(block, problem);
    }
    meet();
    gather_rows(block, problem);
}

template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void run_dpp(Block& block, const Problem& problem, const Meet& meet) {
    start_by_importance(block, problem);
    if (has_walk(problem)) {
        multiply_directions<T>(block, problem, meet);
        meet();
        rank(block, problem);
        measure_lengths(block, problem);
        meet();
        widen(block, problem, meet);
    }
    meet();
    gather_rows(block, problem);
}

template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void run_deduplicate(Block& block, const Problem& problem, const Meet& meet) {
    start_by_importance(block, problem);
    if (has_walk(problem)) {
        multiply_directions<T>(block, problem, meet);
    }
    meet();
    rank(block, problem);
    meet();
    if (has_walk(problem)) {
        thin_out(block, problem, meet);
        meet();
    }
    gather_rows(block, problem);
}

// What a kernel works on, and its shared memory.
template <Rule kRule>
using ProblemOf = std::conditional_t<kRule == Rule::kPositions, PromptProblem, Problem>;
template <Rule kRule>
using SharedOf =
    std::conditional_t<kRule == Rule::kD2, D2Shared,
                       std::conditional_t<kRule == Rule::kPositions, PositionsShared, PairsShared>>;

// Runs the whole op.
template <typename T, Rule kRule, typename Block, typename Meet>
D2EXPORT_PHASE void run_phases(Block& block, const ProblemOf<kRule>& problem, const Meet& meet) {
    if constexpr (kRule == Rule::kD2) {
        run_d2<T>(block, problem, meet);
    } else if constexpr (kRule == Rule::kPositions) {
        run_positions<T>(block, problem, meet);
    } else if constexpr (kRule == Rule::kMaxMin) {
        run_max_min<T>(block, problem, meet);
    } else if constexpr (kRule == Rule::kDpp) {
        run_dpp<T>(block, problem, meet);
    } else {
        run_deduplicate<T>(block, problem, meet);
    }
}

}  // namespace d2export::cuda
