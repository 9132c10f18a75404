// What D2PrunePositions reads: a prompt of text and of the visual tokens of its images.
#pragma once

#include <cstdint>

#include "d2export/rules.h"
#include "d2export/tensors.h"

namespace d2export {

// T tokens of C channels, of which V are visual, of I images; importance comes from H heads (1
// where it has no heads).
struct PromptShape {
    std::int32_t heads = 1;
    std::int32_t length = 0;    // T
    std::int32_t channels = 0;  // C
    std::int32_t tokens = 0;    // V
    std::int32_t images = 0;    // I
};

// Whole numbers as a runtime has them: int64, or int32 where it knows nothing wider.
struct Integers {
    const void* data = nullptr;
    bool narrow = false;

    D2EXPORT_HOST_DEVICE std::int64_t operator[](std::int64_t i) const noexcept {
        return narrow ? static_cast<const std::int32_t*>(data)[i]
                      : static_cast<const std::int64_t*>(data)[i];
    }

    D2EXPORT_HOST_DEVICE Integers from(std::int64_t first) const noexcept {
        const auto* const bytes = static_cast<const unsigned char*>(data);
        return {bytes + first * (narrow ? 4 : 8), narrow};
    }
};

// Row-major and contiguous, not owned; on the host for select(), on the device for
// cuda::select_positions().
struct PromptInputs {
    const void* hidden_states = nullptr;  // [T, C] of `type`
    const float* importance = nullptr;    // [H, T]; only the visual columns matter
    const float* prior = nullptr;         // [V]
    const float* grid = nullptr;          // [V, 2], on the canvas of the token's own image
    Integers visual_positions;            // [V], ascending, image after image
    Integers image_lengths;               // [I], adding up to V
    DataType type = DataType::kFloat32;
};

}  // namespace d2export
