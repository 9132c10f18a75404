// The arithmetic that decides which tokens stay, once for the CPU, the GPU and the host driver.
// Every operation is a single rounded float32 step, in the order of d2export/pruning/reference.py
// and of the references in d2export/pruning/rules, so that equal inputs decide alike everywhere.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define D2EXPORT_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define D2EXPORT_HOST_DEVICE inline
#endif

namespace d2export::rules {

constexpr float kLargestFinite = 3.402823466e38F;

// Multiplication and addition that no compiler fuses into one rounding. Host code that includes
// this file is compiled with -ffp-contract=off.
D2EXPORT_HOST_DEVICE float multiply(float a, float b) noexcept {
#if defined(__CUDA_ARCH__)
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

D2EXPORT_HOST_DEVICE float add(float a, float b) noexcept {
#if defined(__CUDA_ARCH__)
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

D2EXPORT_HOST_DEVICE float divide(float a, float b) noexcept {
#if defined(__CUDA_ARCH__)
    return __fdiv_rn(a, b);
#else
    return a / b;
#endif
}

D2EXPORT_HOST_DEVICE float square_root(float a) noexcept {
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(a);
#else
    return std::sqrt(a);
#endif
}

D2EXPORT_HOST_DEVICE std::uint32_t bits_of(float value) noexcept {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(value);
#else
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
#endif
}

D2EXPORT_HOST_DEVICE float float_of(std::uint32_t bits) noexcept {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

// IEEE half to float, exact, denormals, infinities and NaN included.
D2EXPORT_HOST_DEVICE float half_to_float(std::uint16_t half) noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
    const std::uint32_t magnitude = half & 0x7FFFU;
    const float scaled = float_of(magnitude << 13) * float_of(0x77800000U);  // times 2^112
    const std::uint32_t special = magnitude >= 0x7C00U ? 0x7F800000U : 0U;
    return float_of(sign | bits_of(scaled) | special);
}

D2EXPORT_HOST_DEVICE float bfloat16_to_float(std::uint16_t value) noexcept {
    return float_of(static_cast<std::uint32_t>(value) << 16);
}

// The score of a token: its importance, freed of what its place alone earns.
D2EXPORT_HOST_DEVICE float debias(float importance, float prior, float eps) noexcept {
    return divide(importance, add(prior, eps));
}

// Ascending order of these keys is descending order of the scores, with NaN last.
D2EXPORT_HOST_DEVICE std::uint32_t rank_key(float score) noexcept {
    if (score != score) {
        return 0xFFFFFFFFU;
    }
    const std::uint32_t bits = bits_of(add(score, 0.0F));  // -0 and +0 are equal
    return (bits & 0x80000000U) != 0 ? bits : 0x7FFFFFFFU - bits;
}

// The same, with equal scores ordered by lower index: all keys differ.
D2EXPORT_HOST_DEVICE std::uint64_t rank_key(float score, std::uint32_t index) noexcept {
    return static_cast<std::uint64_t>(rank_key(score)) << 32 | index;
}

// Diagonal of the bounding box of all token centres, 1 if it is 0.
D2EXPORT_HOST_DEVICE float diagonal(float width, float height) noexcept {
    const float length = square_root(add(multiply(width, width), multiply(height, height)));
    return length > 0 ? length : 1.0F;
}

// 1 for the same place, 0 across the canvas.
D2EXPORT_HOST_DEVICE float nearness(float dx, float dy, float diagonal) noexcept {
    const float distance = square_root(add(multiply(dx, dx), multiply(dy, dy)));
    return add(1.0F, -divide(distance, diagonal));
}

D2EXPORT_HOST_DEVICE float similarity(float cosine, float nearness, float alpha) noexcept {
    return add(multiply(alpha, cosine), multiply(add(1.0F, -alpha), nearness));
}

// Factor that scales a vector of this squared length to 1. A zero vector stays zero.
D2EXPORT_HOST_DEVICE float unit_scale(float squared_length) noexcept {
    const float length = square_root(squared_length);
    return length > 0 ? divide(1.0F, length) : 0.0F;
}

// How many of `tokens` stay, by a count or, where that is 0, by a share in thousandths.
D2EXPORT_HOST_DEVICE std::int32_t kept(std::int64_t tokens, std::int64_t keep,
                                       std::int64_t permille) noexcept {
    const std::int64_t share = tokens * permille / 1000;
    const std::int64_t wanted = keep > 0 ? keep : share > 1 ? share : 1;
    return static_cast<std::int32_t>(wanted < tokens ? wanted : tokens);
}

// floor(ratio * count), one float32 product.
D2EXPORT_HOST_DEVICE std::int32_t share_of(float ratio, std::int32_t count) noexcept {
    return static_cast<std::int32_t>(multiply(ratio, static_cast<float>(count)));
}

// --- Directions in whole numbers: MaxMinPrune, DppPrune, DeduplicatePrune ------------------------
//
// Their products are whole numbers below 2^24: int32 and float32 add them without rounding, in any
// order.

constexpr float kWhole = 2048.0F;  // length of a direction

// Factor that scales a vector to length 1, from the sum of its squares, added in float64. 0 where
// the length or its inverse is no finite float32: such a vector has the direction 0 0 ... 0.
D2EXPORT_HOST_DEVICE float whole_scale(double squared_length) noexcept {
    const float inverse = divide(1.0F, static_cast<float>(std::sqrt(squared_length)));
    return inverse <= kLargestFinite ? inverse : 0.0F;
}

// One number of the direction, half to even, of a channel of a vector whose scale is not 0.
D2EXPORT_HOST_DEVICE float whole_number(float channel, float scale) noexcept {
    constexpr float kNoFraction = 12582912.0F;  // floats of this size are whole
    const float number = multiply(multiply(channel, scale), kWhole);
    return add(add(number, kNoFraction), -kNoFraction);
}

// --- DppPrune ------------------------------------------------------------------------------------

constexpr float kLargestScore = 1e30F;     // beyond it a score counts as this
constexpr float kSmallestQuality = 1e-6F;  // of the least relevant token
constexpr double kExhausted = 1e-5;  // a token lies in the span of the kept ones: so little is left

// An infinity becomes the `high`est or `low`est finite score (1 and -1 where none is), NaN stays.
D2EXPORT_HOST_DEVICE float finite_score(float score, float low, float high) noexcept {
    const float known = score > kLargestFinite ? high : score < -kLargestFinite ? low : score;
    return known > kLargestScore ? kLargestScore : known < -kLargestScore ? -kLargestScore : known;
}

// Of a finite score, all of which (but NaN) lie from `low` to `high`.
D2EXPORT_HOST_DEVICE float quality(float score, float low, float high) noexcept {
    if (score != score) {
        return kSmallestQuality;
    }
    const float spread = divide(add(score, -low), add(high, -low));
    return high > low ? add(spread, kSmallestQuality) : 1.0F;
}

// Of two directions, from their product and those of each with itself, above 0.
D2EXPORT_HOST_DEVICE double cosine(std::int32_t product, std::int32_t square,
                                   std::int32_t other_square) noexcept {
    return product / std::sqrt(static_cast<double>(square) * other_square);
}

// What a token adds to the volume: `left` is its share outside the span of the kept ones. Less than
// that of any candidate where the token is none.
D2EXPORT_HOST_DEVICE double gain(float quality, double left) noexcept {
    return left <= kExhausted ? -1.0 : static_cast<double>(quality) * quality * left;
}

// --- DeduplicatePrune ----------------------------------------------------------------------------

constexpr std::int32_t kRemovedAtOnce = 8;

}  // namespace d2export::rules
