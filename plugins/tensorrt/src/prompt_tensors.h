// The same about D2PrunePositions. Part of tensors.h.
//
// Inputs: hidden_states [1, T, C], importance [1, T] or [1, H, T], prior [V], grid [V, 2],
// visual_positions [V] and image_lengths [I], both int64, or int32: TensorRT 8.x has nothing wider,
// and its parser narrows. Output: positions [T - V + n] int32.
#pragma once

#include "tensors.h"

namespace d2export::tensorrt {

nvinfer1::DimsExprs output_extents(std::int32_t output, const nvinfer1::DimsExprs* inputs,
                                   const PositionsParameters& budget,
                                   nvinfer1::IExprBuilder& builder) noexcept;

template <>
nvinfer1::DataType output_type<PositionsParameters>(std::int32_t output,
                                                    nvinfer1::DataType features) noexcept;
template <>
bool supports<PositionsParameters>(std::int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                                   const nvinfer1::PluginTensorDesc& features) noexcept;
template <>
std::string fault<PositionsParameters>(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                       std::int32_t count);
template <>
std::string fault<PositionsParameters>(const nvinfer1::PluginTensorDesc* inputs,
                                       std::int32_t count);
template <>
std::string fault<PositionsParameters>(const nvinfer1::DimsExprs* inputs, std::int32_t count);
template <>
std::size_t workspace_bytes(const nvinfer1::DynamicPluginTensorDesc* inputs,
                            const PositionsParameters& attributes) noexcept;
template <>
std::size_t workspace_bytes(const nvinfer1::PluginTensorDesc* inputs,
                            const PositionsParameters& attributes) noexcept;
template <>
std::int32_t enqueue(const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                     void* const* outputs, void* workspace, const PositionsParameters& attributes,
                     cudaStream_t stream) noexcept;

}  // namespace d2export::tensorrt
