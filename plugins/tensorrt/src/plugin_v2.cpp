#include "plugin_v2.h"

#if NV_TENSORRT_MAJOR < 10

#include <cstring>

#include "d2export/cuda.h"
#include "report.h"
#include "serial.h"
#include "tensors.h"

namespace d2export::tensorrt {

using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

void PluginV2::setPluginNamespace(const char* name) noexcept {
    namespace_ = name == nullptr ? "" : name;
}

std::int32_t PluginV2::getNbOutputs() const noexcept { return kOutputs; }

PluginV2* PluginV2::clone() const noexcept { return new PluginV2(*this); }

std::size_t PluginV2::getSerializationSize() const noexcept {
    return tensorrt::serialize(parameters_).size();
}

void PluginV2::serialize(void* buffer) const noexcept {
    const auto bytes = tensorrt::serialize(parameters_);
    std::memcpy(buffer, bytes.data(), bytes.size());
}

DimsExprs PluginV2::getOutputDimensions(std::int32_t output, const DimsExprs* inputs,
                                        std::int32_t input_count,
                                        nvinfer1::IExprBuilder& builder) noexcept {
    const std::string wrong = fault(inputs, input_count);
    if (!wrong.empty()) {
        report("D2Prune: " + wrong);
        return {};
    }
    return output_extents(output, inputs, parameters_, builder);
}

nvinfer1::DataType PluginV2::getOutputDataType(std::int32_t output,
                                               const nvinfer1::DataType* inputs,
                                               std::int32_t) const noexcept {
    return output == 0 ? inputs[0] : nvinfer1::DataType::kINT32;
}

bool PluginV2::supportsFormatCombination(std::int32_t position, const PluginTensorDesc* tensors,
                                         std::int32_t input_count,
                                         std::int32_t output_count) noexcept {
    return input_count == kInputs && output_count == kOutputs &&
           supports(position, tensors[position], tensors[0]);
}

void PluginV2::configurePlugin(const DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                               const DynamicPluginTensorDesc*, std::int32_t) noexcept {
    const std::string wrong = fault(inputs, input_count);
    if (!wrong.empty()) {
        report("D2Prune: " + wrong);
        return;
    }
    prepare(inputs[0].desc.type);
}

std::size_t PluginV2::getWorkspaceSize(const PluginTensorDesc* inputs, std::int32_t,
                                       const PluginTensorDesc*, std::int32_t) const noexcept {
    return cuda::workspace_bytes(shape_of(inputs[0].dims, inputs[1].dims), parameters_);
}

std::int32_t PluginV2::enqueue(const PluginTensorDesc* input_descriptions, const PluginTensorDesc*,
                               const void* const* inputs, void* const* outputs, void* workspace,
                               cudaStream_t stream) noexcept {
    return tensorrt::enqueue(input_descriptions, inputs, outputs, workspace, parameters_, stream);
}

const nvinfer1::PluginFieldCollection* CreatorV2::getFieldNames() noexcept {
    return &field_names();
}

nvinfer1::IPluginV2* CreatorV2::createPlugin(
    const char*, const nvinfer1::PluginFieldCollection* fields) noexcept {
    std::string why;
    const auto parameters = read_fields(fields, why);
    if (!parameters) {
        report(why);
        return nullptr;
    }
    return new PluginV2(*parameters);
}

nvinfer1::IPluginV2* CreatorV2::deserializePlugin(const char*, const void* data,
                                                  std::size_t size) noexcept {
    std::string why;
    const auto parameters = deserialize(data, size, why);
    if (!parameters) {
        report(why);
        return nullptr;
    }
    return new PluginV2(*parameters);
}

}  // namespace d2export::tensorrt

#endif
