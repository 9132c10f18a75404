#include "plugin_v3.h"

#if NV_TENSORRT_MAJOR >= 10

#include "report.h"
#include "tensors.h"

namespace d2export::tensorrt {

using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

template <typename Attributes>
nvinfer1::IPluginCapability* PluginV3<Attributes>::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE:
            return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD:
            return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME:
            return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

template <typename Attributes>
nvinfer1::IPluginV3* PluginV3<Attributes>::clone() noexcept {
    return new PluginV3(attributes_);
}

template <typename Attributes>
std::int32_t PluginV3<Attributes>::getNbOutputs() const noexcept {
    return Attributes::kOutputs;
}

template <typename Attributes>
std::int32_t PluginV3<Attributes>::getOutputDataTypes(nvinfer1::DataType* outputs,
                                                      std::int32_t output_count,
                                                      const nvinfer1::DataType* inputs,
                                                      std::int32_t) const noexcept {
    for (std::int32_t output = 0; output < output_count; ++output) {
        outputs[output] = output_type<Attributes>(output, inputs[0]);
    }
    return 0;
}

template <typename Attributes>
std::int32_t PluginV3<Attributes>::getOutputShapes(const DimsExprs* inputs,
                                                   std::int32_t input_count, const DimsExprs*,
                                                   std::int32_t, DimsExprs* outputs,
                                                   std::int32_t output_count,
                                                   nvinfer1::IExprBuilder& builder) noexcept {
    const std::string wrong = fault<Attributes>(inputs, input_count);
    if (!wrong.empty()) {
        report(std::string(Attributes::kOp) + ": " + wrong);
        return 1;
    }
    for (std::int32_t output = 0; output < output_count; ++output) {
        outputs[output] = output_extents(output, inputs, attributes_, builder);
    }
    return 0;
}

template <typename Attributes>
bool PluginV3<Attributes>::supportsFormatCombination(std::int32_t position,
                                                     const DynamicPluginTensorDesc* tensors,
                                                     std::int32_t input_count,
                                                     std::int32_t output_count) noexcept {
    return input_count == Attributes::kInputs && output_count == Attributes::kOutputs &&
           supports<Attributes>(position, tensors[position].desc, tensors[0].desc);
}

template <typename Attributes>
std::int32_t PluginV3<Attributes>::configurePlugin(const DynamicPluginTensorDesc* inputs,
                                                   std::int32_t input_count,
                                                   const DynamicPluginTensorDesc*,
                                                   std::int32_t) noexcept {
    const std::string wrong = fault<Attributes>(inputs, input_count);
    if (!wrong.empty()) {
        report(std::string(Attributes::kOp) + ": " + wrong);
        return 1;
    }
    prepare<Attributes>(inputs[0].desc.type);
    return 0;
}

template <typename Attributes>
std::size_t PluginV3<Attributes>::getWorkspaceSize(const DynamicPluginTensorDesc* inputs,
                                                   std::int32_t, const DynamicPluginTensorDesc*,
                                                   std::int32_t) const noexcept {
    return workspace_bytes(inputs, attributes_);
}

template <typename Attributes>
std::int32_t PluginV3<Attributes>::onShapeChange(const PluginTensorDesc* inputs,
                                                 std::int32_t input_count, const PluginTensorDesc*,
                                                 std::int32_t) noexcept {
    const std::string wrong = fault<Attributes>(inputs, input_count);
    if (!wrong.empty()) {
        report(std::string(Attributes::kOp) + ": " + wrong);
        return 1;
    }
    prepare<Attributes>(inputs[0].type);
    return 0;
}

template <typename Attributes>
std::int32_t PluginV3<Attributes>::enqueue(const PluginTensorDesc* input_descriptions,
                                           const PluginTensorDesc*, const void* const* inputs,
                                           void* const* outputs, void* workspace,
                                           cudaStream_t stream) noexcept {
    return tensorrt::enqueue(input_descriptions, inputs, outputs, workspace, attributes_, stream);
}

template <typename Attributes>
nvinfer1::IPluginV3* PluginV3<Attributes>::attachToContext(
    nvinfer1::IPluginResourceContext*) noexcept {
    return clone();
}

template <typename Attributes>
const nvinfer1::PluginFieldCollection* PluginV3<Attributes>::getFieldsToSerialize() noexcept {
    return fields_.collection();
}

template <typename Attributes>
const nvinfer1::PluginFieldCollection* CreatorV3<Attributes>::getFieldNames() noexcept {
    return &field_names<Attributes>();
}

template <typename Attributes>
nvinfer1::IPluginV3* CreatorV3<Attributes>::createPlugin(
    const char*, const nvinfer1::PluginFieldCollection* fields, nvinfer1::TensorRTPhase) noexcept {
    std::string why;
    const auto attributes = read_fields<Attributes>(fields, why);
    if (!attributes) {
        report(why);
        return nullptr;
    }
    return new PluginV3<Attributes>(*attributes);
}

#define D2EXPORT_OP(Attributes)          \
    template class PluginV3<Attributes>; \
    template class CreatorV3<Attributes>;
D2EXPORT_EACH_OP(D2EXPORT_OP)
#undef D2EXPORT_OP

}  // namespace d2export::tensorrt

#endif
