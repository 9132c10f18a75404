#include "plugin_v3.h"

#if NV_TENSORRT_MAJOR >= 10

#include "d2export/cuda.h"
#include "report.h"
#include "tensors.h"

namespace d2export::tensorrt {

using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

nvinfer1::IPluginCapability* PluginV3::getCapabilityInterface(
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

nvinfer1::IPluginV3* PluginV3::clone() noexcept { return new PluginV3(parameters_); }

std::int32_t PluginV3::getNbOutputs() const noexcept { return kOutputs; }

std::int32_t PluginV3::getOutputDataTypes(nvinfer1::DataType* outputs, std::int32_t,
                                          const nvinfer1::DataType* inputs,
                                          std::int32_t) const noexcept {
    outputs[0] = inputs[0];
    outputs[1] = nvinfer1::DataType::kINT32;
    return 0;
}

std::int32_t PluginV3::getOutputShapes(const DimsExprs* inputs, std::int32_t input_count,
                                       const DimsExprs*, std::int32_t, DimsExprs* outputs,
                                       std::int32_t output_count,
                                       nvinfer1::IExprBuilder& builder) noexcept {
    const std::string wrong = fault(inputs, input_count);
    if (!wrong.empty()) {
        report("D2Prune: " + wrong);
        return 1;
    }
    for (std::int32_t output = 0; output < output_count; ++output) {
        outputs[output] = output_extents(output, inputs, parameters_, builder);
    }
    return 0;
}

bool PluginV3::supportsFormatCombination(std::int32_t position,
                                         const DynamicPluginTensorDesc* tensors,
                                         std::int32_t input_count,
                                         std::int32_t output_count) noexcept {
    return input_count == kInputs && output_count == kOutputs &&
           supports(position, tensors[position].desc, tensors[0].desc);
}

std::int32_t PluginV3::configurePlugin(const DynamicPluginTensorDesc* inputs,
                                       std::int32_t input_count, const DynamicPluginTensorDesc*,
                                       std::int32_t) noexcept {
    const std::string wrong = fault(inputs, input_count);
    if (!wrong.empty()) {
        report("D2Prune: " + wrong);
        return 1;
    }
    prepare(inputs[0].desc.type);
    return 0;
}

std::size_t PluginV3::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, std::int32_t,
                                       const DynamicPluginTensorDesc*,
                                       std::int32_t) const noexcept {
    return cuda::workspace_bytes(shape_of(inputs[0].max, inputs[1].max), parameters_);
}

std::int32_t PluginV3::onShapeChange(const PluginTensorDesc* inputs, std::int32_t input_count,
                                     const PluginTensorDesc*, std::int32_t) noexcept {
    const std::string wrong = fault(inputs, input_count);
    if (!wrong.empty()) {
        report("D2Prune: " + wrong);
        return 1;
    }
    prepare(inputs[0].type);
    return 0;
}

std::int32_t PluginV3::enqueue(const PluginTensorDesc* input_descriptions, const PluginTensorDesc*,
                               const void* const* inputs, void* const* outputs, void* workspace,
                               cudaStream_t stream) noexcept {
    return tensorrt::enqueue(input_descriptions, inputs, outputs, workspace, parameters_, stream);
}

nvinfer1::IPluginV3* PluginV3::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    return clone();
}

const nvinfer1::PluginFieldCollection* PluginV3::getFieldsToSerialize() noexcept {
    return fields_.collection();
}

const nvinfer1::PluginFieldCollection* CreatorV3::getFieldNames() noexcept {
    return &field_names();
}

nvinfer1::IPluginV3* CreatorV3::createPlugin(const char*,
                                             const nvinfer1::PluginFieldCollection* fields,
                                             nvinfer1::TensorRTPhase) noexcept {
    std::string why;
    const auto parameters = read_fields(fields, why);
    if (!parameters) {
        report(why);
        return nullptr;
    }
    return new PluginV3(*parameters);
}

}  // namespace d2export::tensorrt

#endif
