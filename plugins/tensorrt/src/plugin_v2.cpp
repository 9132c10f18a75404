#include "plugin_v2.h"

#if NV_TENSORRT_MAJOR < 10

#include <cstring>

#include "report.h"
#include "serial.h"
#include "tensors.h"

namespace d2export::tensorrt {

using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

template <typename Attributes>
void PluginV2<Attributes>::setPluginNamespace(const char* name) noexcept {
    namespace_ = name == nullptr ? "" : name;
}

template <typename Attributes>
std::int32_t PluginV2<Attributes>::getNbOutputs() const noexcept {
    return Attributes::kOutputs;
}

template <typename Attributes>
PluginV2<Attributes>* PluginV2<Attributes>::clone() const noexcept {
    return new PluginV2(*this);
}

template <typename Attributes>
std::size_t PluginV2<Attributes>::getSerializationSize() const noexcept {
    return tensorrt::serialize(attributes_).size();
}

template <typename Attributes>
void PluginV2<Attributes>::serialize(void* buffer) const noexcept {
    const auto bytes = tensorrt::serialize(attributes_);
    std::memcpy(buffer, bytes.data(), bytes.size());
}

template <typename Attributes>
DimsExprs PluginV2<Attributes>::getOutputDimensions(std::int32_t output, const DimsExprs* inputs,
                                                    std::int32_t input_count,
                                                    nvinfer1::IExprBuilder& builder) noexcept {
    const std::string wrong = fault<Attributes>(inputs, input_count);
    if (!wrong.empty()) {
        report(std::string(Attributes::kOp) + ": " + wrong);
        return {};
    }
    return output_extents(output, inputs, attributes_, builder);
}

template <typename Attributes>
nvinfer1::DataType PluginV2<Attributes>::getOutputDataType(std::int32_t output,
                                                           const nvinfer1::DataType* inputs,
                                                           std::int32_t) const noexcept {
    return output_type<Attributes>(output, inputs[0]);
}

template <typename Attributes>
bool PluginV2<Attributes>::supportsFormatCombination(std::int32_t position,
                                                     const PluginTensorDesc* tensors,
                                                     std::int32_t input_count,
                                                     std::int32_t output_count) noexcept {
    return input_count == Attributes::kInputs && output_count == Attributes::kOutputs &&
           supports<Attributes>(position, tensors[position], tensors[0]);
}

template <typename Attributes>
void PluginV2<Attributes>::configurePlugin(const DynamicPluginTensorDesc* inputs,
                                           std::int32_t input_count, const DynamicPluginTensorDesc*,
                                           std::int32_t) noexcept {
    const std::string wrong = fault<Attributes>(inputs, input_count);
    if (!wrong.empty()) {
        report(std::string(Attributes::kOp) + ": " + wrong);
        return;
    }
    prepare<Attributes>(inputs[0].desc.type);
}

template <typename Attributes>
std::size_t PluginV2<Attributes>::getWorkspaceSize(const PluginTensorDesc* inputs, std::int32_t,
                                                   const PluginTensorDesc*,
                                                   std::int32_t) const noexcept {
    return workspace_bytes(inputs, attributes_);
}

template <typename Attributes>
std::int32_t PluginV2<Attributes>::enqueue(const PluginTensorDesc* input_descriptions,
                                           const PluginTensorDesc*, const void* const* inputs,
                                           void* const* outputs, void* workspace,
                                           cudaStream_t stream) noexcept {
    return tensorrt::enqueue(input_descriptions, inputs, outputs, workspace, attributes_, stream);
}

template <typename Attributes>
const nvinfer1::PluginFieldCollection* CreatorV2<Attributes>::getFieldNames() noexcept {
    return &field_names<Attributes>();
}

template <typename Attributes>
nvinfer1::IPluginV2* CreatorV2<Attributes>::createPlugin(
    const char*, const nvinfer1::PluginFieldCollection* fields) noexcept {
    std::string why;
    const auto attributes = read_fields<Attributes>(fields, why);
    if (!attributes) {
        report(why);
        return nullptr;
    }
    return new PluginV2<Attributes>(*attributes);
}

template <typename Attributes>
nvinfer1::IPluginV2* CreatorV2<Attributes>::deserializePlugin(const char*, const void* data,
                                                              std::size_t size) noexcept {
    std::string why;
    const auto attributes = deserialize<Attributes>(data, size, why);
    if (!attributes) {
        report(why);
        return nullptr;
    }
    return new PluginV2<Attributes>(*attributes);
}

#define D2EXPORT_OP(Attributes)          \
    template class PluginV2<Attributes>; \
    template class CreatorV2<Attributes>;
D2EXPORT_EACH_OP(D2EXPORT_OP)
#undef D2EXPORT_OP

}  // namespace d2export::tensorrt

#endif
