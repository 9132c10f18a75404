// The largest inputs that the kernels take. They count in 32 bits, tokens of a picture in 16.
#pragma once

#include <cstdint>

namespace d2export::cuda {

inline constexpr std::int32_t kMaxTokens = 16384;
inline constexpr std::int32_t kMaxChannels = 8192;

// Tokens of all pictures together, a picture counted as no less than 128.
inline constexpr std::int64_t kMaxItems = std::int64_t{1} << 30;

// Pairs of tokens of all pictures together, a picture counted as no less than 64 tokens, where an
// op holds the cosines of all: 4 GiB.
inline constexpr std::int64_t kMaxPairs = std::int64_t{1} << 30;

}  // namespace d2export::cuda
