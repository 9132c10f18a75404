// The ops for TensorRT 8.x: IPluginV2DynamicExt.
#pragma once

#include <NvInferRuntime.h>

#if NV_TENSORRT_MAJOR < 10

#include <string>

#include "attributes.h"

namespace d2export::tensorrt {

// `Attributes` says which op: one of D2EXPORT_EACH_OP.
template <typename Attributes>
class PluginV2 final : public nvinfer1::IPluginV2DynamicExt {
 public:
    explicit PluginV2(const Attributes& attributes) : attributes_(attributes) {}

    const char* getPluginType() const noexcept override { return Attributes::kOp; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return namespace_.c_str(); }
    void setPluginNamespace(const char* name) noexcept override;
    std::int32_t getNbOutputs() const noexcept override;
    PluginV2* clone() const noexcept override;
    void destroy() noexcept override { delete this; }
    std::int32_t initialize() noexcept override { return 0; }
    void terminate() noexcept override {}

    std::size_t getSerializationSize() const noexcept override;
    void serialize(void* buffer) const noexcept override;

    nvinfer1::DimsExprs getOutputDimensions(std::int32_t output, const nvinfer1::DimsExprs* inputs,
                                            std::int32_t input_count,
                                            nvinfer1::IExprBuilder& builder) noexcept override;
    nvinfer1::DataType getOutputDataType(std::int32_t output, const nvinfer1::DataType* inputs,
                                         std::int32_t input_count) const noexcept override;
    bool supportsFormatCombination(std::int32_t position, const nvinfer1::PluginTensorDesc* tensors,
                                   std::int32_t input_count,
                                   std::int32_t output_count) noexcept override;
    void configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                         const nvinfer1::DynamicPluginTensorDesc* outputs,
                         std::int32_t output_count) noexcept override;
    std::size_t getWorkspaceSize(const nvinfer1::PluginTensorDesc* inputs, std::int32_t input_count,
                                 const nvinfer1::PluginTensorDesc* outputs,
                                 std::int32_t output_count) const noexcept override;
    std::int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descriptions,
                         const nvinfer1::PluginTensorDesc* output_descriptions,
                         const void* const* inputs, void* const* outputs, void* workspace,
                         cudaStream_t stream) noexcept override;

 private:
    Attributes attributes_;
    std::string namespace_ = kOpDomain;
};

template <typename Attributes>
class CreatorV2 final : public nvinfer1::IPluginCreator {
 public:
    const char* getPluginName() const noexcept override { return Attributes::kOp; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return kOpDomain; }
    void setPluginNamespace(const char*) noexcept override {}  // it has one, always the same
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
    nvinfer1::IPluginV2* createPlugin(
        const char* name, const nvinfer1::PluginFieldCollection* fields) noexcept override;
    nvinfer1::IPluginV2* deserializePlugin(const char* name, const void* data,
                                           std::size_t size) noexcept override;
};

}  // namespace d2export::tensorrt

#endif
