// Phase 5, last of a round: one block per picture walks down the tile's candidates. A candidate
// joins unless a token of the panel, or one that joined just before it, is its neighbour.
#pragma once

#include "block.h"
#include "edges.h"
#include "fill.h"

namespace d2export::cuda {

struct WalkShared {
    std::uint32_t rivals[kTile][kTileWords];
    std::uint32_t blocked[kTile];
    std::int32_t joined[kTile];  // candidates
    std::int32_t joined_count;
    std::int32_t missing;
};

template <typename Block, typename Where>
D2EXPORT_PHASE void walk_one(Block& block, const Where& problem, std::int32_t b) {
    auto& shared = block.template shared<WalkShared>();
    const Workspace& workspace = problem.workspace;
    const Segment segment = segment_of(problem, b);
    Progress& progress = workspace.progress[b];
    const std::int32_t next = progress.next;
    const std::int32_t panel = progress.panel;
    const std::int32_t missing = progress.missing;
    const std::int32_t candidates = smaller(kTile, segment.tokens - next);
    const std::int64_t tile = static_cast<std::int64_t>(b) * kTile;
    block.each([&](std::int32_t thread) {
        for (std::int32_t i = thread; i < candidates * kTileWords; i += kThreads) {
            shared.rivals[i / kTileWords][i % kTileWords] = workspace.rivals[tile * kTileWords + i];
        }
        for (std::int32_t i = thread; i < candidates; i += kThreads) {
            shared.blocked[i] = workspace.blocked[tile + i];
        }
    });
    block.each([&](std::int32_t thread) {
        if (thread > 0) {
            return;
        }
        std::uint32_t joined[kTileWords] = {};  // in registers: no index is computed
        std::int32_t count = 0;
        std::int32_t left = missing;
        D2EXPORT_UNROLL(kTileWords)
        for (std::int32_t w = 0; w < kTileWords; ++w) {
            const std::int32_t end = smaller(candidates, (w + 1) * kWord);
            for (std::int32_t i = w * kWord; i < end && left > 0; ++i) {
                std::uint32_t rivals = shared.blocked[i];
                D2EXPORT_UNROLL(kTileWords)
                for (std::int32_t v = 0; v <= w; ++v) {
                    rivals |= shared.rivals[i][v] & joined[v];
                }
                const bool is_pivot = next + i < segment.pivots;
                if (is_pivot || rivals == 0U) {
                    joined[w] |= 1U << i % kWord;
                    shared.joined[count++] = i;
                    left -= is_pivot ? 0 : 1;
                }
            }
        }
        shared.joined_count = count;
        shared.missing = left;
    });
    block.each([&](std::int32_t thread) {
        const std::int32_t* const order = workspace.order + segment.first + next;
        const std::int64_t first = segment.panel + panel;
        for (std::int32_t k = thread; k < shared.joined_count; k += kThreads) {
            const std::int32_t candidate = shared.joined[k];
            workspace.panel[first + k] = order[candidate];
            workspace.panel_scale[first + k] = workspace.tile_scale[tile + candidate];
            mark(block, problem, b, order[candidate]);
        }
    });
    const bool exhausted = next + candidates == segment.tokens;
    const std::int32_t left = shared.missing;
    const std::int32_t joined = shared.joined_count;
    if (exhausted && left > 0) {
        fill(block, problem, b, left);
    }
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            progress = Progress{next + candidates, panel + joined, exhausted ? 0 : left};
            if (exhausted || left == 0) {
                block.subtract(workspace.open, 1);
            }
        }
    });
}

template <typename Block, typename Where>
D2EXPORT_PHASE void walk(Block& block, const Where& problem) {
    for (std::int32_t b = block.index(); b < problem.shape.batch; b += block.count()) {
        if (problem.workspace.progress[b].missing > 0) {
            walk_one(block, problem, b);
        }
    }
}

}  // namespace d2export::cuda
