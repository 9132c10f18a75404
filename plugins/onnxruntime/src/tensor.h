// One tensor of a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "api.h"
#include "d2export/tensors.h"

namespace d2export::onnxruntime {

using Extents = std::vector<std::int64_t>;

// ONNX Runtime's name of the type of `features` and `kept`.
ONNXTensorElementDataType element_type(DataType type) noexcept;

// One input: its extents and where its values are. The types are ONNX Runtime's to check.
struct Tensor {
    const char* name;
    const OrtValue* value = nullptr;
    Extents extents;
    const void* data = nullptr;

    Tensor(const OrtApi& api, const OrtKernelContext& context, std::size_t index,
           const char* its_name);

    // Throws Failure: it has another shape than expected.
    void require(bool fits, const std::string& expected) const;

    // Throws Failure: it is above 2^31 - 1.
    std::int32_t extent(std::size_t axis) const;

    const float* floats() const noexcept { return static_cast<const float*>(data); }
};

// Throw Failure: a shape that does not fit those.
// [B, N] or [B, H, N]; returns H, or 1.
std::int32_t heads_of(const Tensor& importance, std::int32_t batch, std::int32_t tokens);
void require_prior(const Tensor& prior, std::int32_t tokens);
void require_grid(const Tensor& grid, std::int32_t tokens);

// Memory of an output, allocated by ONNX Runtime.
void* output(const OrtApi& api, OrtKernelContext& context, std::size_t index,
             const Extents& extents);

}  // namespace d2export::onnxruntime
