// The greedy independent set: candidates come in the order of their scores, and one joins unless a
// token that joined before it is its neighbour.
//
// Candidates are decided a batch at a time, so that a row that joined is read once for all of
// them. Most that have a neighbour are dropped before: it tends to be among the nearest.
#pragma once

#include <cstdint>

#include "unit_rows.h"

namespace d2export {

class Walk {
 public:
    // Room for `capacity` tokens that join.
    Walk(std::int32_t capacity, std::int32_t channels, Scratch& scratch) noexcept;

    // Starts anew with no token.
    void start(const Neighbourhood& neighbourhood) noexcept;

    // `token` joins, whatever its neighbours.
    void admit(std::int32_t token) noexcept { joined_.append(neighbourhood_, token); }

    // Puts `token` into the batch, unless one of the nearest tokens is its neighbour.
    void propose(std::int32_t token) noexcept;
    std::int32_t proposed() const noexcept { return batch_.count(); }

    // Decides the batch: calls join(token) for those that join, until it answers false.
    template <typename Join>
    void decide(const Join& join) noexcept {
        compare_with_joined();
        const std::int32_t before = joined_.count();
        bool more = true;
        for (std::int32_t k = 0; more && k < batch_.count(); ++k) {
            if (!blocked_[k] && !has_neighbour_from(before, k)) {
                more = join(batch_.token(k));
                joined_.append(batch_, k);
            }
        }
        batch_.clear();
    }

    static constexpr std::int32_t kBatch = 18;

 private:
    float* nearness(std::int32_t k) const noexcept {
        return nearness_ + static_cast<std::size_t>(k) * static_cast<std::size_t>(capacity_);
    }
    bool is_neighbour(std::int32_t j, std::int32_t k, float cosine) const noexcept;
    bool has_neighbour_among(const std::int32_t* rows, std::int32_t count,
                             std::int32_t k) const noexcept;
    bool has_neighbour_from(std::int32_t first, std::int32_t k) noexcept;
    std::int32_t find_within(std::int32_t first, std::int32_t k) noexcept;
    void compare_with_joined() noexcept;
    void compare_with_four(std::int32_t first) noexcept;

    Neighbourhood neighbourhood_{};
    std::int32_t capacity_;
    UnitRows joined_;
    UnitRows batch_;
    float* nearness_;         // [kBatch, capacity], of a candidate to those that joined
    std::int32_t* within_;    // [capacity], those near enough to be neighbours
    bool blocked_[kBatch]{};  // by a token that joined before the batch
    bool settled_[kBatch]{};  // compared with all of them
};

}  // namespace d2export
