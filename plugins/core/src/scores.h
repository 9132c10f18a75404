// Scores of one picture's tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "d2export/rules.h"
#include "d2export/tensors.h"

namespace d2export {

// scores[N] = mean of `importance` [H, N] over its heads.
inline void mean_over_heads(const Shape& shape, const float* importance, float* scores) noexcept {
    const auto tokens = static_cast<std::size_t>(shape.tokens);
    std::memcpy(scores, importance, tokens * sizeof(float));
    for (std::int32_t head = 1; head < shape.heads; ++head) {
        importance += tokens;
        for (std::size_t i = 0; i < tokens; ++i) {
            scores[i] += importance[i];
        }
    }
    const auto heads = static_cast<float>(shape.heads);
    for (std::size_t i = 0; i < tokens; ++i) {
        scores[i] = rules::divide(scores[i], heads);
    }
}

}  // namespace d2export
