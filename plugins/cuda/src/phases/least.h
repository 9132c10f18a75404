// The least of the keys that the threads of a block have.
#pragma once

#include "block.h"

namespace d2export::cuda {

inline constexpr std::uint64_t kNoKey = ~std::uint64_t{0};  // beyond every key
inline constexpr std::int32_t kLeastParts = 16;

struct LeastShared {
    std::uint64_t keys[kThreads];
    std::uint64_t parts[kLeastParts];
    std::uint64_t least;
};

D2EXPORT_HOST_DEVICE std::uint64_t lesser(std::uint64_t a, std::uint64_t b) noexcept {
    return a < b ? a : b;
}

// Into shared.least, from the keys that `key_of(thread)` gives.
template <typename Block, typename KeyOf>
D2EXPORT_PHASE void find_least(Block& block, LeastShared& shared, const KeyOf& key_of) {
    block.each([&](std::int32_t thread) { shared.keys[thread] = key_of(thread); });
    block.each([&](std::int32_t thread) {
        if (thread < kLeastParts) {
            std::uint64_t least = kNoKey;
            for (std::int32_t i = thread; i < kThreads; i += kLeastParts) {
                least = lesser(least, shared.keys[i]);
            }
            shared.parts[thread] = least;
        }
    });
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            std::uint64_t least = kNoKey;
            for (const std::uint64_t part : shared.parts) {
                least = lesser(least, part);
            }
            shared.least = least;
        }
    });
}

// The token or place that a key of rules::rank_key ends with.
D2EXPORT_HOST_DEVICE std::int32_t index_of(std::uint64_t key) noexcept {
    return static_cast<std::int32_t>(key & 0xFFFFFFFFU);
}

}  // namespace d2export::cuda
