// What all selects share: one picture after the other, and ids from marks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "d2export/tensors.h"

namespace d2export {

struct Picture {
    const void* features;     // [N, C] of `type`
    const float* importance;  // [H, N], null where the op has none
    DataType type;
};

inline void keep_all(const Shape& shape, std::int32_t* indices) noexcept {
    for (std::int32_t b = 0; b < shape.batch; ++b) {
        for (std::int32_t token = 0; token < shape.tokens; ++token) {
            *indices++ = token;
        }
    }
}

// Calls mark(picture) for each, which sets stays[token] for those that stay: 0 before. Their ids
// go to `indices`.
template <typename Mark>
void select_each(const Shape& shape, const Inputs& inputs, std::uint8_t* stays,
                 std::int32_t* indices, const Mark& mark) noexcept {
    const auto tokens = static_cast<std::size_t>(shape.tokens);
    const std::size_t bytes =
        tokens * static_cast<std::size_t>(shape.channels) * bytes_of(inputs.type);
    const std::size_t scores = static_cast<std::size_t>(shape.heads) * tokens;
    const auto* features = static_cast<const unsigned char*>(inputs.features);
    const float* importance = inputs.importance;
    for (std::int32_t b = 0; b < shape.batch; ++b) {
        std::memset(stays, 0, tokens);
        mark(Picture{features, importance, inputs.type});
        for (std::int32_t token = 0; token < shape.tokens; ++token) {
            if (stays[token] != 0) {
                *indices++ = token;
            }
        }
        features += bytes;
        importance = importance == nullptr ? nullptr : importance + scores;
    }
}

}  // namespace d2export
