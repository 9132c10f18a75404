// Sums of products over channels: the only floating-point loops whose order is free.
#pragma once

#include <cstddef>
#include <cstdint>

#include "d2export/tensors.h"

namespace d2export {

// Rows that the functions below read are padded with zeros to a multiple of this many floats.
inline constexpr std::size_t kRowStep = 64;

constexpr std::size_t padded(std::int32_t channels) noexcept {
    return (static_cast<std::size_t>(channels) + kRowStep - 1) / kRowStep * kRowStep;
}

// Widens row `token` of `features` to float, pads it, scales it to length 1 as rules::unit_scale
// says, and returns the squared length it had.
float load_unit_row(const void* features, DataType type, std::size_t token, std::int32_t channels,
                    float* row) noexcept;

// Writes the direction of a token in whole numbers, padded, and returns its product with itself: 0
// if the token has none, see rules::whole_scale.
std::int32_t load_direction(const void* features, DataType type, std::size_t token,
                            std::int32_t channels, std::int16_t* row) noexcept;

// a . b, neither padded.
double short_dot(const double* a, const double* b, std::int32_t length) noexcept;

// products[k] = row . others[k], for four padded rows at once.
void four_dots(const float* row, const float* const others[4], std::size_t length,
               float products[4]) noexcept;

// products[4 * r + k] = rows[r] . others[k], for three padded rows and four others.
void three_by_four_dots(const float* const rows[3], const float* const others[4],
                        std::size_t length, float products[12]) noexcept;

// The same for directions in whole numbers.
void three_by_four_dots(const std::int16_t* const rows[3], const std::int16_t* const others[4],
                        std::size_t length, std::int32_t products[12]) noexcept;

}  // namespace d2export
