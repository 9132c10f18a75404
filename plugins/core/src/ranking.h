// Tokens by descending score, sorted no further than the walk looks.
#pragma once

#include <algorithm>
#include <cstdint>

namespace d2export {

class Ranking {
 public:
    // Reorders `keys` in place. The first `pivots` ranks are the pivots, in no order.
    Ranking(std::uint64_t* keys, std::int32_t tokens, std::int32_t pivots) noexcept
        : keys_(keys), tokens_(tokens), sorted_(pivots) {
        if (pivots > 0 && pivots < tokens) {
            std::nth_element(keys, keys + pivots, keys + tokens);
        }
    }

    std::int32_t pivot(std::int32_t rank) const noexcept { return token(rank); }

    // The token at `rank`, pivots counted. Ranks are asked for one after the other; `expected` says
    // how many more will be asked for at least.
    std::int32_t residual(std::int32_t rank, std::int32_t expected) noexcept {
        if (rank >= sorted_) {
            const std::int32_t more = std::max({kChunk, expected, sorted_});
            const std::int32_t end = more < tokens_ - sorted_ ? sorted_ + more : tokens_;
            if (end < tokens_) {
                std::nth_element(keys_ + sorted_, keys_ + end, keys_ + tokens_);
            }
            std::sort(keys_ + sorted_, keys_ + end);
            sorted_ = end;
        }
        return token(rank);
    }

 private:
    static constexpr std::int32_t kChunk = 64;

    std::int32_t token(std::int32_t rank) const noexcept {
        return static_cast<std::int32_t>(keys_[rank] & 0xFFFFFFFFU);
    }

    std::uint64_t* keys_;
    std::int32_t tokens_;
    std::int32_t sorted_;
};

}  // namespace d2export
