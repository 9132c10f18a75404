#include "kept_panel.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "d2export/rules.h"
#include "dots.h"
#include "simd.h"

namespace d2export {
namespace {

// Cosines of rounded unit vectors stay below this; rows so short that their squares lose precision
// may exceed anything.
constexpr float kReach = 1.001F;
constexpr float kShortest = 1e-30F;  // squared length

constexpr std::int32_t kGroup = 4;  // rows per call of four_dots

D2EXPORT_VECTOR_VARIANTS
void measure(const float* x, const float* y, std::int32_t count, float diagonal,
             float* nearness) noexcept {
    for (std::int32_t k = 0; k < count; ++k) {
        nearness[k] = rules::nearness(x[count] - x[k], y[count] - y[k], diagonal);
    }
}

}  // namespace

KeptPanel::KeptPanel(std::int32_t rows, std::int32_t channels, Scratch& scratch) noexcept
    : channels_(channels), stride_(padded(channels)) {
    const auto places = static_cast<std::size_t>(rows) + 1;
    units_ = scratch.take<float>(places * stride_);
    x_ = scratch.take<float>(places);
    y_ = scratch.take<float>(places);
    reach_ = scratch.take<float>(places);
    nearness_ = scratch.take<float>(places);
    within_ = scratch.take<std::int32_t>(places);
}

void KeptPanel::stage(const Neighbourhood& neighbourhood, std::int32_t token) noexcept {
    float* const row = units_ + static_cast<std::size_t>(count_) * stride_;
    const float squares = load_unit_row(neighbourhood.features, neighbourhood.type,
                                        static_cast<std::size_t>(token), channels_, row);
    const float* const centre = neighbourhood.grid + 2 * static_cast<std::size_t>(token);
    x_[count_] = centre[0];
    y_[count_] = centre[1];
    const bool imprecise = squares > 0 && squares < kShortest;
    reach_[count_] = imprecise ? std::numeric_limits<float>::infinity() : kReach;
}

bool KeptPanel::has_neighbour(const Neighbourhood& neighbourhood) noexcept {
    measure(x_, y_, count_, neighbourhood.diagonal, nearness_);
    // Only a token that would be a neighbour at the largest cosine is worth a product.
    std::int32_t count = 0;
    for (std::int32_t k = 0; k < count_; ++k) {
        const float reach = std::max(reach_[count_], reach_[k]);
        const bool outside =
            rules::similarity(reach, nearness_[k], neighbourhood.alpha) <= neighbourhood.theta;
        within_[count] = k;
        count += outside ? 0 : 1;
    }
    // The nearest first: they are the likeliest neighbours, and one is enough.
    const auto nearer = [this](std::int32_t a, std::int32_t b) {
        return nearness_[a] > nearness_[b];
    };
    const std::int32_t first = std::min(count, kGroup);
    std::partial_sort(within_, within_ + first, within_ + count, nearer);
    for (std::int32_t k = 0; k < count; k += kGroup) {
        if (any_neighbour(neighbourhood, within_ + k, std::min(kGroup, count - k))) {
            return true;
        }
    }
    return false;
}

bool KeptPanel::any_neighbour(const Neighbourhood& neighbourhood, const std::int32_t* others,
                              std::int32_t count) const noexcept {
    const float* rows[kGroup];
    for (std::int32_t k = 0; k < kGroup; ++k) {
        rows[k] = units_ + static_cast<std::size_t>(others[std::min(k, count - 1)]) * stride_;
    }
    float cosines[kGroup];
    four_dots(units_ + static_cast<std::size_t>(count_) * stride_, rows, stride_, cosines);
    for (std::int32_t k = 0; k < count; ++k) {
        if (rules::similarity(cosines[k], nearness_[others[k]], neighbourhood.alpha) >
            neighbourhood.theta) {
            return true;
        }
    }
    return false;
}

}  // namespace d2export
