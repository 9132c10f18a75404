// What both plugin interfaces ask about an op's tensors, answered once.
//
// Inputs: the first Attributes::kInputs of features [B, N, C], importance [B, N] or [B, H, N],
// prior [N] and grid [N, 2]. Outputs: kept [B, M, C], indices [B, M]. Those of D2PrunePositions are
// in prompt_tensors.h.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "d2export/tensors.h"
#include "ops.h"

namespace d2export::tensorrt {

// Symbolic extents of an output, for inputs without fault().
nvinfer1::DimsExprs output_extents(std::int32_t output, const nvinfer1::DimsExprs* inputs,
                                   const Budget& budget, nvinfer1::IExprBuilder& builder) noexcept;

// Type of an output, given that of the first input.
template <typename Attributes>
nvinfer1::DataType output_type(std::int32_t output, nvinfer1::DataType features) noexcept;

// Whether tensor `position`, behind the inputs the outputs, may be as described, given those before
// it: row-major; features and kept float32, float16 or (from TensorRT 10) bfloat16, indices int32,
// the rest float32. `features` describes the first tensor.
template <typename Attributes>
bool supports(std::int32_t position, const nvinfer1::PluginTensorDesc& tensor,
              const nvinfer1::PluginTensorDesc& features) noexcept;

// What does not fit in the number, ranks and extents of the inputs: the largest extents that a
// profile allows, those of a launch, or symbols. Extents still unknown (-1) fit.
template <typename Attributes>
std::string fault(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t count);
template <typename Attributes>
std::string fault(const nvinfer1::PluginTensorDesc* inputs, std::int32_t count);
template <typename Attributes>
std::string fault(const nvinfer1::DimsExprs* inputs, std::int32_t count);

// Loads the kernel for such features, so that no enqueue() does, which may be captured. Reports why
// it cannot be loaded; enqueue() fails then.
template <typename Attributes>
void prepare(nvinfer1::DataType features) noexcept;

// Bytes that enqueue() works in, for extents that are known: the largest that a profile allows, or
// those of a launch.
template <typename Attributes>
std::size_t workspace_bytes(const nvinfer1::DynamicPluginTensorDesc* inputs,
                            const Attributes& attributes) noexcept;
template <typename Attributes>
std::size_t workspace_bytes(const nvinfer1::PluginTensorDesc* inputs,
                            const Attributes& attributes) noexcept;

// Enqueues the op, unless the inputs have a fault: TensorRT 8.x lets no plugin refuse them earlier.
// Returns 0, or another number after reporting why.
template <typename Attributes>
std::int32_t enqueue(const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                     void* const* outputs, void* workspace, const Attributes& attributes,
                     cudaStream_t stream) noexcept;

}  // namespace d2export::tensorrt

#include "prompt_tensors.h"
