// Phase 3, first of a round: the scalar products of the next kTile candidates with the panel and
// with the candidates before them, split over channels so that a few candidates fill the GPU.
#pragma once

#include "segments.h"
#include "tile.h"

namespace d2export::cuda {

// One item of work: a tile of products over one split of the channels.
struct ProductsItem {
    std::int32_t b;
    std::int32_t row;           // first candidate
    std::int32_t panel_column;  // first token of the panel, or -1
    std::int32_t tile_column;   // first candidate to multiply with, if not the panel
    std::int32_t split;
};

template <typename T, typename Block, typename Where>
D2EXPORT_PHASE void multiply_tile(Block& block, const Where& problem, const ProductsItem& item) {
    auto& shared = block.template shared<ProductsShared>();
    const Workspace& workspace = problem.workspace;
    const Progress& progress = workspace.progress[item.b];
    const Segment segment = segment_of(problem, item.b);
    const std::int32_t* const order = workspace.order + segment.first;
    const std::int32_t* const panel = workspace.panel + segment.panel;
    block.each([&](std::int32_t thread) {
        if (thread < kRows) {
            const bool is_row = thread < kRowTile;
            const bool of_panel = !is_row && item.panel_column >= 0;
            const std::int32_t place =
                is_row ? item.row + thread
                       : (of_panel ? item.panel_column : item.tile_column) + thread - kRowTile;
            std::int32_t token = -1;
            if (of_panel) {
                token = place < progress.panel ? panel[place] : -1;
            } else if (place < kTile && progress.next + place < segment.tokens) {
                token = order[progress.next + place];
            }
            shared.tokens[thread] = token < 0 ? token : row_of(problem, segment, token);
        }
    });

    const std::int32_t row_bytes = problem.shape.channels * static_cast<std::int32_t>(sizeof(T));
    const std::int32_t split_bytes = smaller(kSplitBytes, row_bytes - item.split * kSplitBytes);
    typename Block::template Products<T> products;
    multiply_rows(block, rows_of<T>(problem, item.b), item.split * kSplitBytes, split_bytes,
                  products);

    const std::int32_t column =
        item.panel_column >= 0 ? item.panel_column : segment.pitch - kTile + item.tile_column;
    const std::int64_t row = static_cast<std::int64_t>(item.split) * kTile + item.row;
    float* const to = workspace.products + segment.products + row * segment.pitch + column;
    block.each([&](std::int32_t thread) { products.store(to, segment.pitch, thread); });
}

template <typename T, typename Block, typename Where>
D2EXPORT_PHASE void multiply(Block& block, const Where& problem) {
    std::int32_t phase = 0;  // the block whose turn it is, after the items of the pictures before
    for (std::int32_t b = 0; b < problem.shape.batch; ++b) {
        const Progress& progress = problem.workspace.progress[b];
        if (progress.missing == 0) {
            continue;
        }
        const std::int32_t candidates =
            smaller(kTile, segment_of(problem, b).tokens - progress.next);
        const std::int32_t row_tiles = divide_up(candidates, kRowTile);
        const std::int32_t panel_tiles = divide_up(progress.panel, kColumnTile);
        const std::int32_t columns = panel_tiles + divide_up(candidates, kColumnTile);
        const std::int32_t items = row_tiles * columns * problem.splits;
        const std::int32_t first =
            block.index() >= phase ? block.index() - phase : block.index() - phase + block.count();
        for (std::int32_t i = first; i < items; i += block.count()) {
            ProductsItem item{};
            item.b = b;
            item.split = i % problem.splits;
            item.row = i / problem.splits % row_tiles * kRowTile;
            const std::int32_t column = i / problem.splits / row_tiles;
            item.panel_column = column < panel_tiles ? column * kColumnTile : -1;
            item.tile_column = (column - panel_tiles) * kColumnTile;
            // A candidate is compared with those before it, and with itself for its length.
            if (item.panel_column >= 0 || item.tile_column < item.row + kRowTile) {
                multiply_tile<T>(block, problem, item);
            }
        }
        phase = (phase + items) % block.count();
    }
}

}  // namespace d2export::cuda
