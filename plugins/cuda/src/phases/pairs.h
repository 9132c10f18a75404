// The scalar products of all pairs of directions, each pair once. Items of work that run at the
// same time lie in the same square of 256 x 256 tokens, whose rows stay in the GPU's cache
// meanwhile.
#pragma once

#include "directions.h"
#include "tile.h"

namespace d2export::cuda {

inline constexpr std::int32_t kSquare = 256;  // tokens on a side
inline constexpr std::int32_t kSquareRows = kSquare / kRowTile;
inline constexpr std::int32_t kSquareItems = kSquareRows * (kSquare / kColumnTile);

// The products of `token` with all tokens of picture `b`.
D2EXPORT_HOST_DEVICE float* pairs_of(const Problem& problem, std::int32_t b,
                                     std::int32_t token) noexcept {
    return problem.workspace.pairs +
           (static_cast<std::int64_t>(b) * problem.side + token) * problem.side;
}

// The products of kRowTile tokens from `row` on with kColumnTile from `column` on.
template <typename Block>
D2EXPORT_PHASE void multiply_pairs_tile(Block& block, const Problem& problem, std::int32_t b,
                                        std::int32_t row, std::int32_t column) {
    auto& shared = block.template shared<ProductsShared>();
    block.each([&](std::int32_t thread) {
        if (thread < kRows) {
            const std::int32_t token =
                thread < kRowTile ? row + thread : column + thread - kRowTile;
            shared.tokens[thread] = token < problem.shape.tokens ? token : -1;
        }
    });
    typename Block::template Products<Half> products;
    const Rows<Half> rows{direction_row(problem, b, 0), problem.width};
    multiply_rows(block, rows, 0, problem.width * static_cast<std::int32_t>(sizeof(Half)),
                  products);
    block.each([&](std::int32_t thread) {
        products.store(pairs_of(problem, b, row) + column, problem.side, thread);
        if (column < row) {  // else both orders of a pair lie in the tiles of these rows
            products.store_transposed(pairs_of(problem, b, column) + row, problem.side, thread);
        }
    });
}

template <typename Block>
D2EXPORT_PHASE void multiply_pairs(Block& block, const Problem& problem) {
    const std::int32_t squares = divide_up(problem.shape.tokens, kSquare);
    const std::int32_t items_of_one = squares * (squares + 1) / 2 * kSquareItems;
    const std::int32_t items = problem.shape.batch * items_of_one;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        const std::int32_t square = item % items_of_one / kSquareItems;
        std::int32_t down = 0;  // the square's place below the diagonal, row by row
        while ((down + 1) * (down + 2) / 2 <= square) {
            ++down;
        }
        const std::int32_t across = square - down * (down + 1) / 2;
        const std::int32_t place = item % kSquareItems;
        const std::int32_t row = down * kSquare + place % kSquareRows * kRowTile;
        const std::int32_t column = across * kSquare + place / kSquareRows * kColumnTile;
        if (row < problem.shape.tokens && column < smaller(row + kRowTile, problem.shape.tokens)) {
            const std::int32_t b = item / items_of_one;
            multiply_pairs_tile(block, problem, b, row, column);
        }
    }
}

}  // namespace d2export::cuda
