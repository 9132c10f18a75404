// How the blocks of a launch share a batch: as many pictures at a time as there are blocks, and a
// team of blocks for each.
#pragma once

#include "block.h"

namespace d2export::cuda {

struct Team {
    std::int32_t b;      // picture, or -1 for a block without work
    std::int32_t index;  // of this block in the team
    std::int32_t size;   // no more blocks than kRowsAtOnce tokens each keep busy
};

// Calls `walk` with the team of this block, as often in all blocks, so that it may meet the others.
template <typename Block, typename Walk>
D2EXPORT_PHASE void in_teams(const Block& block, const Problem& problem, const Walk& walk) {
    const std::int32_t batch = problem.shape.batch;
    const std::int32_t at_once = smaller(batch, block.count());
    const std::int32_t size =
        smaller(block.count() / at_once, divide_up(problem.shape.tokens, kRowsAtOnce));
    for (std::int32_t first = 0; first < batch; first += at_once) {
        const std::int32_t place = block.index() / size;
        const bool works = place < at_once && first + place < batch;
        walk(Team{works ? first + place : -1, block.index() % size, size});
    }
}

}  // namespace d2export::cuda
