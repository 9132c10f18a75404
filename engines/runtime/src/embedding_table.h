// Rows of the language model's embedding table, read from the weight file that holds it.
#pragma once

#include <d2export/bundle.h>

#include <cstdint>
#include <vector>

namespace d2export::runtime {

// `[ids, hidden]` float32. Throws an Error: the bundle has no such table, it cannot be read, or an
// id is none of its rows.
std::vector<float> embedded(const Bundle& bundle, const std::vector<std::int64_t>& ids);

// The values of half-precision bits.
float from_float16(std::uint16_t bits);
float from_bfloat16(std::uint16_t bits);

}  // namespace d2export::runtime
