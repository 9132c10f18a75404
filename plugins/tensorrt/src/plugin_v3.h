// The ops from TensorRT 10 on: IPluginV3 with its core, build and runtime capabilities.
#pragma once

#include <NvInferRuntime.h>

#if NV_TENSORRT_MAJOR >= 10

#include "attributes.h"

namespace d2export::tensorrt {

// `Attributes` says which op: one of D2EXPORT_EACH_OP.
template <typename Attributes>
class PluginV3 final : public nvinfer1::IPluginV3,
                       public nvinfer1::IPluginV3OneCore,
                       public nvinfer1::IPluginV3OneBuild,
                       public nvinfer1::IPluginV3OneRuntime {
 public:
    explicit PluginV3(const Attributes& attributes)
        : attributes_(attributes), fields_(attributes) {}

    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    const char* getPluginName() const noexcept override { return Attributes::kOp; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kOpDomain; }

    std::int32_t getNbOutputs() const noexcept override;
    std::int32_t getOutputDataTypes(nvinfer1::DataType* outputs, std::int32_t output_count,
                                    const nvinfer1::DataType* inputs,
                                    std::int32_t input_count) const noexcept override;
    std::int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                                 const nvinfer1::DimsExprs* shape_inputs,
                                 std::int32_t shape_input_count, nvinfer1::DimsExprs* outputs,
                                 std::int32_t output_count,
                                 nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(std::int32_t position,
                                   const nvinfer1::DynamicPluginTensorDesc* tensors,
                                   std::int32_t input_count,
                                   std::int32_t output_count) noexcept override;
    std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                 std::int32_t input_count,
                                 const nvinfer1::DynamicPluginTensorDesc* outputs,
                                 std::int32_t output_count) noexcept override;
    std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                 std::int32_t input_count,
                                 const nvinfer1::DynamicPluginTensorDesc* outputs,
                                 std::int32_t output_count) const noexcept override;

    std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, std::int32_t input_count,
                               const nvinfer1::PluginTensorDesc* outputs,
                               std::int32_t output_count) noexcept override;
    std::int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descriptions,
                         const nvinfer1::PluginTensorDesc* output_descriptions,
                         const void* const* inputs, void* const* outputs, void* workspace,
                         cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(
        nvinfer1::IPluginResourceContext* context) noexcept override;
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
    Attributes attributes_;
    Fields fields_;
};

template <typename Attributes>
class CreatorV3 final : public nvinfer1::IPluginCreatorV3One {
 public:
    const char* getPluginName() const noexcept override { return Attributes::kOp; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kOpDomain; }
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
    nvinfer1::IPluginV3* createPlugin(const char* name,
                                      const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
};

}  // namespace d2export::tensorrt

#endif
