// The least of what the threads of a block have.
#pragma once

#include "block.h"

namespace d2export::cuda {

inline constexpr std::int32_t kLeastParts = 16;

// Of keys that `<` orders.
template <typename Key>
struct LeastShared {
    Key keys[kThreads];
    Key parts[kLeastParts];
    Key least;
};

template <typename Key>
D2EXPORT_HOST_DEVICE Key lesser(const Key& a, const Key& b) noexcept {
    return b < a ? b : a;
}

// Into shared.least, from the keys that `key_of(thread)` gives.
template <typename Block, typename Key, typename KeyOf>
D2EXPORT_PHASE void find_least(Block& block, LeastShared<Key>& shared, const KeyOf& key_of) {
    block.each([&](std::int32_t thread) { shared.keys[thread] = key_of(thread); });
    block.each([&](std::int32_t thread) {
        if (thread < kLeastParts) {
            Key least = shared.keys[thread];
            for (std::int32_t i = thread + kLeastParts; i < kThreads; i += kLeastParts) {
                least = lesser(least, shared.keys[i]);
            }
            shared.parts[thread] = least;
        }
    });
    block.each([&](std::int32_t thread) {
        if (thread == 0) {
            Key least = shared.parts[0];
            for (const Key& part : shared.parts) {
                least = lesser(least, part);
            }
            shared.least = least;
        }
    });
}

inline constexpr std::uint64_t kNoKey = ~std::uint64_t{0};  // beyond every rules::rank_key

// The token or place that a rules::rank_key ends with.
D2EXPORT_HOST_DEVICE std::int32_t index_of(std::uint64_t key) noexcept {
    return static_cast<std::int32_t>(key & 0xFFFFFFFFU);
}

}  // namespace d2export::cuda
