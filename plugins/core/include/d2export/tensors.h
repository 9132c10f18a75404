// What the ops read and write: shapes, element types, pointers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace d2export {

// Element type of `features` and `kept`. Everything else is float32, indices are int32.
enum class DataType : std::int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

constexpr std::size_t bytes_of(DataType type) noexcept {
    return type == DataType::kFloat32 ? 4 : 2;
}

// B pictures of N tokens of C channels; importance comes from H heads (1 where it has no heads).
struct Shape {
    std::int32_t batch = 1;
    std::int32_t heads = 1;
    std::int32_t tokens = 0;
    std::int32_t channels = 0;
};

// Inputs of an op, row-major and contiguous, not owned; it has the first kInputs of its parameters.
// On the host for select(), on the device for cuda::prune().
struct Inputs {
    const void* features = nullptr;     // [B, N, C] of `type`
    const float* importance = nullptr;  // [B, H, N]
    const float* prior = nullptr;       // [N]
    const float* grid = nullptr;        // [N, 2], token centres (x, y) on the image canvas
    DataType type = DataType::kFloat32;
};

}  // namespace d2export
