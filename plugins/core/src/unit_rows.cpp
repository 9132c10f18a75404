#include "unit_rows.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "d2export/rules.h"
#include "dots.h"
#include "simd.h"

namespace d2export {
namespace {

// Cosines of rounded unit vectors stay below this; those of rows so short that their squares lose
// precision may be anything.
constexpr float kReach = 1.001F;
constexpr float kShortest = 1e-30F;  // squared length

D2EXPORT_VECTOR_VARIANTS
void measure_from(float from_x, float from_y, const float* x, const float* y, std::int32_t count,
                  float diagonal, float* nearness) noexcept {
    for (std::int32_t k = 0; k < count; ++k) {
        nearness[k] = rules::nearness(from_x - x[k], from_y - y[k], diagonal);
    }
}

}  // namespace

UnitRows::UnitRows(std::int32_t capacity, std::int32_t channels, Scratch& scratch) noexcept
    : channels_(channels), length_(padded(channels)) {
    const auto rows = static_cast<std::size_t>(capacity);
    units_ = scratch.take<float>(rows * length_);
    tokens_ = scratch.take<std::int32_t>(rows);
    x_ = scratch.take<float>(rows);
    y_ = scratch.take<float>(rows);
    reach_ = scratch.take<float>(rows);
}

void UnitRows::append(const Neighbourhood& neighbourhood, std::int32_t token) noexcept {
    float* const row = units_ + static_cast<std::size_t>(count_) * length_;
    const std::int64_t place = neighbourhood.rows == nullptr ? token : (*neighbourhood.rows)[token];
    const float squares = load_unit_row(neighbourhood.features, neighbourhood.type,
                                        static_cast<std::size_t>(place), channels_, row);
    const float* const centre = neighbourhood.grid + 2 * static_cast<std::size_t>(token);
    tokens_[count_] = token;
    x_[count_] = centre[0];
    y_[count_] = centre[1];
    const bool imprecise = squares > 0 && squares < kShortest;
    reach_[count_] = imprecise ? std::numeric_limits<float>::infinity() : kReach;
    ++count_;
}

void UnitRows::append(const UnitRows& from, std::int32_t k) noexcept {
    std::memcpy(units_ + static_cast<std::size_t>(count_) * length_, from.row(k),
                length_ * sizeof(float));
    tokens_[count_] = from.tokens_[k];
    x_[count_] = from.x_[k];
    y_[count_] = from.y_[k];
    reach_[count_] = from.reach_[k];
    ++count_;
}

void UnitRows::measure(const UnitRows& others, std::int32_t k, float diagonal, std::int32_t first,
                       float* nearness) const noexcept {
    measure_from(others.x_[k], others.y_[k], x_ + first, y_ + first, count_ - first, diagonal,
                 nearness + first);
}

bool UnitRows::may_be_neighbours(std::int32_t j, const UnitRows& others, std::int32_t k,
                                 float nearness,
                                 const Neighbourhood& neighbourhood) const noexcept {
    const float reach = std::max(reach_[j], others.reach_[k]);
    return !(rules::similarity(reach, nearness, neighbourhood.alpha) <= neighbourhood.theta);
}

}  // namespace d2export
