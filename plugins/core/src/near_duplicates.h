// Removes, again and again, the tokens that are most like others.
//
// The cosine of each pair is computed once. Tokens know the places of those most like them, so that
// a round looks at few cosines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "directions.h"
#include "pictures.h"
#include "scratch.h"

namespace d2export {

class NearDuplicates {
 public:
    NearDuplicates(std::int32_t tokens, std::int32_t channels, Scratch& scratch) noexcept;

    // Thins `tokens` out until `wanted` are left, and returns their places in `tokens`. A round
    // compares tokens at even places with those at odd places; of the even ones the (at most 8)
    // most similar to any odd one go, the earlier of equals first. The even ones that stay come
    // before the odd ones, both in their order.
    const std::int32_t* thin_out(const Picture& picture, const std::int32_t* tokens,
                                 std::int32_t wanted) noexcept;

 private:
    enum class State : std::uint8_t { kGone, kEven, kOdd };
    static constexpr std::int32_t kPanel = 48;  // rows that stay in the processor's cache
    static constexpr std::int32_t kLikest = 32;

    void compare_all() noexcept;
    void find_likest(std::int32_t place) noexcept;
    std::int32_t nearest_odd(std::int32_t place, std::int32_t left) const noexcept;
    std::int32_t round(std::int32_t left, std::int32_t surplus) noexcept;
    std::int32_t* cosines(std::int32_t place) const noexcept {
        return cosines_ + static_cast<std::size_t>(place) * static_cast<std::size_t>(tokens_);
    }
    std::int32_t* likest(std::int32_t place) const noexcept {
        return likest_ + static_cast<std::size_t>(place) * kLikest;
    }

    std::int32_t tokens_;
    std::int32_t* cosines_;  // [tokens, tokens]
    std::int32_t* likest_;   // [tokens, kLikest], the most similar first
    std::int32_t* order_;    // [tokens], places of those left
    std::int32_t* next_;     // [tokens], the same after a round
    State* states_;          // [tokens]
    std::uint64_t* keys_;    // [tokens], of the even ones
    Directions directions_;
};

}  // namespace d2export
