#include "dots.h"

#include <algorithm>
#include <cstring>

#include "d2export/rules.h"
#include "simd.h"

namespace d2export {
namespace {

// Each returns the squared length of the row it widens.
D2EXPORT_VECTOR_VARIANTS
float widen_float(const float* from, std::int32_t channels, float* row) noexcept {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int32_t c = 0; c < channels; ++c) {
        row[c] = from[c];
        squares += row[c] * row[c];
    }
    return squares;
}

D2EXPORT_VECTOR_VARIANTS
float widen_half(const std::uint16_t* from, std::int32_t channels, float* row) noexcept {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int32_t c = 0; c < channels; ++c) {
        row[c] = rules::half_to_float(from[c]);
        squares += row[c] * row[c];
    }
    return squares;
}

D2EXPORT_VECTOR_VARIANTS
float widen_bfloat16(const std::uint16_t* from, std::int32_t channels, float* row) noexcept {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int32_t c = 0; c < channels; ++c) {
        row[c] = rules::bfloat16_to_float(from[c]);
        squares += row[c] * row[c];
    }
    return squares;
}

float widen(const void* features, DataType type, std::size_t first, std::int32_t channels,
            float* row) noexcept {
    switch (type) {
        case DataType::kFloat16:
            return widen_half(static_cast<const std::uint16_t*>(features) + first, channels, row);
        case DataType::kBFloat16:
            return widen_bfloat16(static_cast<const std::uint16_t*>(features) + first, channels,
                                  row);
        case DataType::kFloat32:
            break;
    }
    return widen_float(static_cast<const float*>(features) + first, channels, row);
}

// The squares of floats are exact in double.
D2EXPORT_VECTOR_VARIANTS
double add_squares(const float* row, std::int32_t channels) noexcept {
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int32_t c = 0; c < channels; ++c) {
        squares += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    }
    return squares;
}

// Returns the sum of the squares, which are whole numbers below 2^24 all together.
D2EXPORT_VECTOR_VARIANTS
std::int32_t round_row(const float* from, std::int32_t channels, float scale,
                       std::int16_t* row) noexcept {
    std::int32_t squares = 0;
    for (std::int32_t c = 0; c < channels; ++c) {
        const auto number = static_cast<std::int32_t>(rules::whole_number(from[c], scale));
        row[c] = static_cast<std::int16_t>(number);
        squares += number * number;
    }
    return squares;
}

// Calls use(first, count, floats) for a row, widened piece by piece.
template <typename Use>
void for_each_piece(const void* features, DataType type, std::size_t token, std::int32_t channels,
                    const Use& use) noexcept {
    constexpr std::int32_t kPiece = 512;
    float piece[kPiece];
    const std::size_t start = token * static_cast<std::size_t>(channels);
    for (std::int32_t first = 0; first < channels; first += kPiece) {
        const std::int32_t count = std::min(kPiece, channels - first);
        widen(features, type, start + static_cast<std::size_t>(first), count, piece);
        use(first, count, piece);
    }
}

}  // namespace

float load_unit_row(const void* features, DataType type, std::size_t token, std::int32_t channels,
                    float* row) noexcept {
    const std::size_t width = static_cast<std::size_t>(channels);
    const float squares = widen(features, type, token * width, channels, row);
    const float scale = rules::unit_scale(squares);
    for (std::size_t c = 0; c < width; ++c) {
        row[c] *= scale;
    }
    std::memset(row + width, 0, (padded(channels) - width) * sizeof(float));
    return squares;
}

std::int32_t load_direction(const void* features, DataType type, std::size_t token,
                            std::int32_t channels, std::int16_t* row) noexcept {
    double squares = 0;
    for_each_piece(features, type, token, channels,
                   [&](std::int32_t, std::int32_t count, const float* piece) {
                       squares += add_squares(piece, count);
                   });
    const float scale = rules::whole_scale(squares);
    std::memset(row, 0, padded(channels) * sizeof(std::int16_t));
    std::int32_t whole_squares = 0;
    if (scale > 0) {
        for_each_piece(features, type, token, channels,
                       [&](std::int32_t first, std::int32_t count, const float* piece) {
                           whole_squares += round_row(piece, count, scale, row + first);
                       });
    }
    return whole_squares;
}

D2EXPORT_VECTOR_VARIANTS
double short_dot(const double* a, const double* b, std::int32_t length) noexcept {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int32_t i = 0; i < length; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

// Two halves of four rows: eight independent sums keep both multiply-add units of a core busy.
D2EXPORT_VECTOR_VARIANTS
void four_dots(const float* row, const float* const others[4], std::size_t length,
               float products[4]) noexcept {
    const std::size_t half = length / 2;
    const float* const a = others[0];
    const float* const b = others[1];
    const float* const c = others[2];
    const float* const d = others[3];
    float a0 = 0, a1 = 0, b0 = 0, b1 = 0, c0 = 0, c1 = 0, d0 = 0, d1 = 0;
#pragma omp simd reduction(+ : a0, a1, b0, b1, c0, c1, d0, d1)
    for (std::size_t i = 0; i < half; ++i) {
        const float low = row[i];
        const float high = row[half + i];
        a0 += low * a[i];
        a1 += high * a[half + i];
        b0 += low * b[i];
        b1 += high * b[half + i];
        c0 += low * c[i];
        c1 += high * c[half + i];
        d0 += low * d[i];
        d1 += high * d[half + i];
    }
    products[0] = a0 + a1;
    products[1] = b0 + b1;
    products[2] = c0 + c1;
    products[3] = d0 + d1;
}

// Twelve sums, three rows and one other at a time: what the sixteen registers of AVX2 hold.
D2EXPORT_VECTOR_VARIANTS
void three_by_four_dots(const float* const rows[3], const float* const others[4],
                        std::size_t length, float products[12]) noexcept {
    const float* const a = rows[0];
    const float* const b = rows[1];
    const float* const c = rows[2];
    const float* const k = others[0];
    const float* const l = others[1];
    const float* const m = others[2];
    const float* const n = others[3];
    float ak = 0, al = 0, am = 0, an = 0, bk = 0, bl = 0, bm = 0, bn = 0;
    float ck = 0, cl = 0, cm = 0, cn = 0;
#pragma omp simd reduction(+ : ak, al, am, an, bk, bl, bm, bn, ck, cl, cm, cn)
    for (std::size_t i = 0; i < length; ++i) {
        ak += a[i] * k[i];
        bk += b[i] * k[i];
        ck += c[i] * k[i];
        al += a[i] * l[i];
        bl += b[i] * l[i];
        cl += c[i] * l[i];
        am += a[i] * m[i];
        bm += b[i] * m[i];
        cm += c[i] * m[i];
        an += a[i] * n[i];
        bn += b[i] * n[i];
        cn += c[i] * n[i];
    }
    const float sums[12] = {ak, al, am, an, bk, bl, bm, bn, ck, cl, cm, cn};
    std::memcpy(products, sums, sizeof sums);
}

// Integers may be added in any order without a pragma, which would hide from the compiler that two
// products of 16 bits and their sum are one instruction.
D2EXPORT_VECTOR_VARIANTS
void three_by_four_dots(const std::int16_t* const rows[3], const std::int16_t* const others[4],
                        std::size_t length, std::int32_t products[12]) noexcept {
    std::int32_t sums[12] = {};
    for (std::size_t i = 0; i < length; ++i) {
        for (int r = 0; r < 3; ++r) {
            for (int k = 0; k < 4; ++k) {
                sums[4 * r + k] += rows[r][i] * others[k][i];
            }
        }
    }
    std::memcpy(products, sums, sizeof sums);
}

}  // namespace d2export
