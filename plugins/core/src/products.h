// Scalar products of all pairs of two lists of directions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dots.h"

namespace d2export {

struct Range {
    std::int32_t first;
    std::int32_t last;  // exclusive
};

// Of one call in dots.h.
inline constexpr std::int32_t kRowsAtOnce = 3;
inline constexpr std::int32_t kOthersAtOnce = 4;

// Calls each(i, k, left(i) . right(k)) for all pairs, for each i in the order of k. `left` and
// `right` return padded rows of `length`.
template <typename Left, typename Right, typename Each>
void multiply(std::size_t length, Range lefts, const Left& left, Range rights, const Right& right,
              const Each& each) noexcept {
    for (std::int32_t i = lefts.first; i < lefts.last; i += kRowsAtOnce) {
        const std::int16_t* rows[kRowsAtOnce];
        const std::int32_t height = std::min(kRowsAtOnce, lefts.last - i);
        for (std::int32_t r = 0; r < kRowsAtOnce; ++r) {
            rows[r] = left(i + std::min(r, height - 1));
        }
        for (std::int32_t k = rights.first; k < rights.last; k += kOthersAtOnce) {
            const std::int16_t* others[kOthersAtOnce];
            const std::int32_t width = std::min(kOthersAtOnce, rights.last - k);
            for (std::int32_t c = 0; c < kOthersAtOnce; ++c) {
                others[c] = right(k + std::min(c, width - 1));
            }
            std::int32_t products[kRowsAtOnce * kOthersAtOnce];
            three_by_four_dots(rows, others, length, products);
            for (std::int32_t r = 0; r < height; ++r) {
                for (std::int32_t c = 0; c < width; ++c) {
                    each(i + r, k + c, products[kOthersAtOnce * r + c]);
                }
            }
        }
    }
}

}  // namespace d2export
