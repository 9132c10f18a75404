// The phases in their order, and the largest shared memory that any of them takes.
#pragma once

#include "edges.h"
#include "float_products.h"
#include "gather.h"
#include "products.h"
#include "rank.h"
#include "score.h"
#include "walk.h"

namespace d2export::cuda {

union AnyShared {
    ScoreShared score;
    RankShared rank;
    ProductsShared products;
    EdgesShared edges;
    WalkShared walk;
    GatherShared gather;
};

// Runs the whole op. `meet` is a barrier of all blocks; what was written before it can be read
// behind it.
template <typename T, typename Block, typename Meet>
D2EXPORT_PHASE void run_phases(Block& block, const Problem& problem, const Meet& meet) {
    score(block, problem);
    meet();
    rank(block, problem);
    meet();
    while (*static_cast<const volatile std::int32_t*>(problem.workspace.open) > 0) {
        multiply<T>(block, problem);
        meet();
        find_edges<T>(block, problem);
        meet();
        walk(block, problem);
        meet();
    }
    gather_rows(block, problem);
}

}  // namespace d2export::cuda
