// Directions in whole numbers: unit vectors times 2048, rounded. Half holds -2048 to 2048, and the
// products of two rows are whole numbers below 2^24, which float32 sums hold: the tensor cores
// find the same cosines as any other arithmetic, to the bit, for features of every type.
#pragma once

#include "block.h"

namespace d2export::cuda {

struct DirectionsShared {
    double squares[kRowsAtOnce][kPartsOfRow + 1];  // so that rows start in other banks
    float scale[kRowsAtOnce];
};

// A whole number from -2048 to 2048.
D2EXPORT_HOST_DEVICE Half whole_half(float value) noexcept {
    const std::uint32_t bits = rules::bits_of(value);
    const std::uint32_t sign = bits >> 16 & 0x8000U;
    const std::uint32_t magnitude = ((bits & 0x7FFFFFFFU) >> 13) - 0x1C000U;
    return Half{static_cast<std::uint16_t>(value == 0.0F ? 0U : sign | magnitude)};
}

// Row `token` of picture `b`: its channels, and zeros up to the width.
D2EXPORT_HOST_DEVICE Half* direction_row(const Problem& problem, std::int32_t b,
                                         std::int32_t token) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(b) * problem.shape.tokens + token;
    return static_cast<Half*>(problem.workspace.directions) + row * problem.width;
}

// Of kRowsAtOnce tokens from `first` on.
template <typename T, typename Block>
D2EXPORT_PHASE void write_directions(Block& block, const Problem& problem, std::int32_t b,
                                     std::int32_t first) {
    auto& shared = block.template shared<DirectionsShared>();
    const std::int32_t channels = problem.shape.channels;
    const std::int32_t tokens = smaller(kRowsAtOnce, problem.shape.tokens - first);
    block.each([&](std::int32_t thread) {
        const std::int32_t mine = thread / kPartsOfRow;
        if (mine < tokens) {
            const T* const row = feature_row<T>(problem, b, first + mine);
            double squares = 0;
            D2EXPORT_UNROLL(16)  // as many loads on their way
            for (std::int32_t c = thread % kPartsOfRow; c < channels; c += kPartsOfRow) {
                const double value = to_float(row[c]);
                squares += value * value;
            }
            shared.squares[mine][thread % kPartsOfRow] = squares;
        }
    });
    block.each([&](std::int32_t thread) {
        if (thread < tokens) {
            double squares = 0;
            for (std::int32_t part = 0; part < kPartsOfRow; ++part) {
                squares += shared.squares[thread][part];
            }
            shared.scale[thread] = rules::whole_scale(squares);
        }
    });
    block.each([&](std::int32_t thread) {
        const std::int32_t mine = thread / kPartsOfRow;
        if (mine >= tokens) {
            return;
        }
        const T* const row = feature_row<T>(problem, b, first + mine);
        Half* const to = direction_row(problem, b, first + mine);
        const float scale = shared.scale[mine];
        D2EXPORT_UNROLL(16)
        for (std::int32_t c = thread % kPartsOfRow; c < problem.width; c += kPartsOfRow) {
            float value = 0;
            if (c < channels && scale > 0) {  // else it may be NaN
                value = rules::whole_number(to_float(row[c]), scale);
            }
            to[c] = whole_half(value);
        }
    });
}

template <typename T, typename Block>
D2EXPORT_PHASE void find_directions(Block& block, const Problem& problem) {
    const std::int32_t items_of_one = divide_up(problem.shape.tokens, kRowsAtOnce);
    const std::int32_t items = problem.shape.batch * items_of_one;
    for (std::int32_t item = block.index(); item < items; item += block.count()) {
        write_directions<T>(block, problem, item / items_of_one, item % items_of_one * kRowsAtOnce);
    }
}

}  // namespace d2export::cuda
