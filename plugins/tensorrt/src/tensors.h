// What both plugin interfaces ask about the op's tensors, answered once.
//
// Inputs: features [B, N, C], importance [B, N] or [B, H, N], prior [N], grid [N, 2].
// Outputs: kept [B, M, C], indices [B, M].
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "d2export/parameters.h"
#include "d2export/tensors.h"

namespace d2export::tensorrt {

inline constexpr std::int32_t kInputs = 4;
inline constexpr std::int32_t kOutputs = 2;

// Symbolic extents of an output, for inputs without fault().
nvinfer1::DimsExprs output_extents(std::int32_t output, const nvinfer1::DimsExprs* inputs,
                                   const Parameters& parameters,
                                   nvinfer1::IExprBuilder& builder) noexcept;

// Whether tensor `position`, inputs first, may be as described, given those before it: row-major;
// features and kept float32, float16 or (from TensorRT 10) bfloat16, indices int32, the rest
// float32. `features` describes the first tensor.
bool supports(std::int32_t position, const nvinfer1::PluginTensorDesc& tensor,
              const nvinfer1::PluginTensorDesc& features) noexcept;

// What does not fit in the number, ranks and extents of the inputs: the largest extents that a
// profile allows, those of a launch, or symbols. Extents still unknown (-1) fit.
std::string fault(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t count);
std::string fault(const nvinfer1::PluginTensorDesc* inputs, std::int32_t count);
std::string fault(const nvinfer1::DimsExprs* inputs, std::int32_t count);

// Loads the kernel for such features, so that no enqueue() does, which may be captured. Reports why
// it cannot be loaded; enqueue() fails then.
void prepare(nvinfer1::DataType features) noexcept;

// The op's shape, from extents that are known.
Shape shape_of(const nvinfer1::Dims& features, const nvinfer1::Dims& importance) noexcept;

// Enqueues the op, unless the inputs have a fault: TensorRT 8.x lets no plugin refuse them earlier.
// Returns 0, or another number after reporting why.
std::int32_t enqueue(const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                     void* const* outputs, void* workspace, const Parameters& parameters,
                     cudaStream_t stream) noexcept;

}  // namespace d2export::tensorrt
