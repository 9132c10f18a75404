// Phase 4, second of a round: from products to neighbours, one candidate after the other.
#pragma once

#include <type_traits>

#include "block.h"
#include "segments.h"

namespace d2export::cuda {

inline constexpr std::int32_t kTileWords = kTile / kWord;

struct EdgesShared {
    float scale[kTile];  // of the candidates
    std::uint32_t rivals[kTileWords];
    std::uint32_t blocked;
};

// Whether any channel of the row is an infinity or NaN.
template <typename T>
D2EXPORT_HOST_DEVICE bool has_non_finite(const T* row, std::int32_t channels) {
    for (std::int32_t c = 0; c < channels; ++c) {
        if (!(fabsf(to_float(row[c])) <= rules::kLargestFinite)) {
            return true;
        }
    }
    return false;
}

// What scales a row of this squared length to 1: 0 for a zero vector, and for one whose squares
// overflow, as the reference has it; NaN for one that holds an infinity or NaN. Squares of finite
// halves do not overflow.
template <typename T>
D2EXPORT_HOST_DEVICE float scale_of(float squares, const T* row, std::int32_t channels) {
    if (!(squares <= rules::kLargestFinite) &&
        (std::is_same_v<T, Half> || has_non_finite(row, channels))) {
        return rules::float_of(0x7FC00000U);
    }
    return rules::unit_scale(squares);
}

D2EXPORT_HOST_DEVICE float cosine_of(float product, float scale, float other_scale) {
    if (scale == 0.0F || other_scale == 0.0F) {
        product = 0.0F;  // which may have overflowed
    }
    return rules::multiply(rules::multiply(product, scale), other_scale);
}

// The sum over all splits of one product.
D2EXPORT_HOST_DEVICE float sum_products(const Problem& problem, const Segment& segment,
                                        std::int32_t row, std::int32_t column) {
    const std::int64_t plane = static_cast<std::int64_t>(kTile) * segment.pitch;
    const float* product = problem.workspace.products + segment.products +
                           static_cast<std::int64_t>(row) * segment.pitch + column;
    float sum = 0;
    for (std::int32_t split = 0; split < problem.splits; ++split, product += plane) {
        sum = rules::add(sum, *product);
    }
    return sum;
}

// Which tokens of the panel, and which candidates before it, candidate `row` is a neighbour of.
template <typename T, typename Block, typename Where>
D2EXPORT_PHASE void find_neighbours(Block& block, const Where& problem, std::int32_t b,
                                    std::int32_t row) {
    auto& shared = block.template shared<EdgesShared>();
    const Workspace& workspace = problem.workspace;
    const Progress& progress = workspace.progress[b];
    const Segment segment = segment_of(problem, b);
    const std::int32_t* const candidates = workspace.order + segment.first + progress.next;
    const std::int32_t* const panel = workspace.panel + segment.panel;
    const float* const panel_scale = workspace.panel_scale + segment.panel;
    const std::int32_t tile_column = segment.pitch - kTile;
    const float diagonal = diagonal_of(problem, b);

    block.each([&](std::int32_t thread) {
        if (thread <= row) {
            const Rows<T> rows = rows_of<T>(problem, b);
            const std::int64_t row_of_token = row_of(problem, segment, candidates[thread]);
            shared.scale[thread] =
                scale_of(sum_products(problem, segment, thread, tile_column + thread),
                         rows.first + row_of_token * rows.width, rows.width);
        }
        if (thread < kTileWords) {
            shared.rivals[thread] = 0;
        }
        if (thread == 0) {
            shared.blocked = 0;
        }
    });
    block.each([&](std::int32_t thread) {
        const float* const grid = grid_of(problem, segment);
        const std::int32_t token = candidates[row];
        const auto is_neighbour = [&](std::int32_t other, float other_scale, std::int32_t column) {
            const float near =
                rules::nearness(rules::add(grid[2 * token], -grid[2 * other]),
                                rules::add(grid[2 * token + 1], -grid[2 * other + 1]), diagonal);
            const float cosine = cosine_of(sum_products(problem, segment, row, column),
                                           shared.scale[row], other_scale);
            return rules::similarity(cosine, near, problem.alpha) > problem.theta;
        };
        for (std::int32_t k = thread; k < progress.panel; k += kThreads) {
            if (is_neighbour(panel[k], panel_scale[k], k)) {
                block.set_bits(&shared.blocked, 1U);
            }
        }
        if (thread < row &&
            is_neighbour(candidates[thread], shared.scale[thread], tile_column + thread)) {
            block.set_bits(&shared.rivals[thread / kWord], 1U << thread % kWord);
        }
    });
    block.each([&](std::int32_t thread) {
        const std::int64_t place = static_cast<std::int64_t>(b) * kTile + row;
        if (thread < kTileWords) {
            workspace.rivals[place * kTileWords + thread] = shared.rivals[thread];
        }
        if (thread == 0) {
            workspace.blocked[place] = shared.blocked;
            workspace.tile_scale[place] = shared.scale[row];
        }
    });
}

template <typename T, typename Block, typename Where>
D2EXPORT_PHASE void find_edges(Block& block, const Where& problem) {
    const std::int32_t items = problem.shape.batch * kTile;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        const std::int32_t b = item / kTile;
        const std::int32_t row = item % kTile;
        const Progress& progress = problem.workspace.progress[b];
        if (progress.missing > 0 && progress.next + row < segment_of(problem, b).tokens) {
            find_neighbours<T>(block, problem, b, row);
        }
    }
}

}  // namespace d2export::cuda
