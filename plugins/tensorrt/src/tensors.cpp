#include "tensors.h"

#include <algorithm>
#include <limits>

#include "d2export/cuda.h"
#include "report.h"

namespace d2export::tensorrt {
namespace {

using nvinfer1::DimensionOperation;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::IDimensionExpr;
using nvinfer1::IExprBuilder;

// M = min(keep, N), or min(max(1, N * permille / 1000), N).
const IDimensionExpr* kept_extent(const IDimensionExpr& tokens, const Parameters& parameters,
                                  IExprBuilder& builder) noexcept {
    const auto number = [&builder](std::int64_t value) {
        return builder.constant(static_cast<std::int32_t>(
            std::min<std::int64_t>(value, std::numeric_limits<std::int32_t>::max())));
    };
    const IDimensionExpr* wanted = number(parameters.keep);
    if (parameters.keep == 0) {
        const IDimensionExpr* const thousandths =
            builder.operation(DimensionOperation::kPROD, tokens, *number(parameters.keep_permille));
        wanted = builder.operation(
            DimensionOperation::kMAX, *number(1),
            *builder.operation(DimensionOperation::kFLOOR_DIV, *thousandths, *number(1000)));
    }
    return builder.operation(DimensionOperation::kMIN, *wanted, tokens);
}

std::string text_of(const Dims& extents) {
    std::string text = "[";
    for (std::int32_t i = 0; i < extents.nbDims; ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(extents.d[i]);
    }
    return text + "]";
}

bool agree(std::int64_t a, std::int64_t b) noexcept { return a == b || a < 0 || b < 0; }

DataType type_of(nvinfer1::DataType type) noexcept {
    switch (type) {
        case nvinfer1::DataType::kHALF:
            return DataType::kFloat16;
        case nvinfer1::DataType::kFLOAT:
            return DataType::kFloat32;
        default:
            return DataType::kBFloat16;  // supports() allows no other
    }
}

bool is_feature_type(nvinfer1::DataType type) noexcept {
#if NV_TENSORRT_MAJOR >= 10
    if (type == nvinfer1::DataType::kBF16) {
        return true;
    }
#endif
    return type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kHALF;
}

std::string wrong_count(std::int32_t count) {
    return "it has " + std::to_string(count) +
           " inputs, expected features, importance, prior and grid";
}

// From TensorRT 10 on extents are int64.
bool too_large(const Dims& extents) noexcept {
    return std::any_of(extents.d, extents.d + extents.nbDims, [](std::int64_t extent) {
        return extent > std::numeric_limits<std::int32_t>::max();
    });
}

std::string fault(const Dims& features, const Dims& importance, const Dims& prior,
                  const Dims& grid) {
    if (features.nbDims != 3) {
        return "features has shape " + text_of(features) + ", expected [B, N, C]";
    }
    const std::int32_t last = importance.nbDims - 1;
    if ((last != 1 && last != 2) || !agree(importance.d[0], features.d[0]) ||
        !agree(importance.d[last], features.d[1]) || (last == 2 && importance.d[1] == 0)) {
        return "importance has shape " + text_of(importance) +
               ", expected [B, N] or [B, H, N] for features " + text_of(features);
    }
    if (prior.nbDims != 1 || !agree(prior.d[0], features.d[1])) {
        return "prior has shape " + text_of(prior) + ", expected [N] for features " +
               text_of(features);
    }
    if (grid.nbDims != 2 || !agree(grid.d[0], features.d[1]) || !agree(grid.d[1], 2)) {
        return "grid has shape " + text_of(grid) + ", expected [N, 2] for features " +
               text_of(features);
    }
    if (too_large(features) || too_large(importance)) {
        return "features has shape " + text_of(features) + " and importance " +
               text_of(importance) + ", expected extents below 2^31";
    }
    return cuda::fault(shape_of(features, importance));
}

}  // namespace

DimsExprs output_extents(std::int32_t output, const DimsExprs* inputs, const Parameters& parameters,
                         IExprBuilder& builder) noexcept {
    const DimsExprs& features = inputs[0];
    DimsExprs extents{};
    extents.nbDims = output == 0 ? 3 : 2;
    extents.d[0] = features.d[0];
    extents.d[1] = kept_extent(*features.d[1], parameters, builder);
    if (output == 0) {
        extents.d[2] = features.d[2];
    }
    return extents;
}

bool supports(std::int32_t position, const nvinfer1::PluginTensorDesc& tensor,
              const nvinfer1::PluginTensorDesc& features) noexcept {
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) {
        return false;
    }
    switch (position) {
        case 0:
            return is_feature_type(tensor.type);
        case kInputs:
            return tensor.type == features.type;
        case kInputs + 1:
            return tensor.type == nvinfer1::DataType::kINT32;
        default:
            return tensor.type == nvinfer1::DataType::kFLOAT;
    }
}

std::string fault(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t count) {
    return count == kInputs ? fault(inputs[0].max, inputs[1].max, inputs[2].max, inputs[3].max)
                            : wrong_count(count);
}

std::string fault(const nvinfer1::PluginTensorDesc* inputs, std::int32_t count) {
    return count == kInputs ? fault(inputs[0].dims, inputs[1].dims, inputs[2].dims, inputs[3].dims)
                            : wrong_count(count);
}

std::string fault(const DimsExprs* inputs, std::int32_t count) {
    if (count != kInputs) {
        return wrong_count(count);
    }
    if (inputs[0].nbDims != 3) {
        return "features has " + std::to_string(inputs[0].nbDims) +
               " dimensions, expected [B, N, C]";
    }
    return {};
}

void prepare(nvinfer1::DataType features) noexcept {
    const cudaError_t status = cuda::prepare(type_of(features));
    if (status != cudaSuccess) {
        report("D2Prune could not be loaded: " + std::string(cudaGetErrorString(status)));
    }
}

Shape shape_of(const Dims& features, const Dims& importance) noexcept {
    Shape shape;
    shape.batch = static_cast<std::int32_t>(features.d[0]);
    shape.heads = importance.nbDims == 3 ? static_cast<std::int32_t>(importance.d[1]) : 1;
    shape.tokens = static_cast<std::int32_t>(features.d[1]);
    shape.channels = static_cast<std::int32_t>(features.d[2]);
    return shape;
}

std::int32_t enqueue(const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                     void* const* outputs, void* workspace, const Parameters& parameters,
                     cudaStream_t stream) noexcept {
    const std::string wrong = fault(descriptions, kInputs);
    if (!wrong.empty()) {
        report("D2Prune: " + wrong);
        return 1;
    }
    const Shape shape = shape_of(descriptions[0].dims, descriptions[1].dims);
    const Inputs tensors{inputs[0], static_cast<const float*>(inputs[1]),
                         static_cast<const float*>(inputs[2]), static_cast<const float*>(inputs[3]),
                         type_of(descriptions[0].type)};
    const cudaError_t status =
        cuda::prune(shape, tensors, parameters, outputs[0], static_cast<std::int32_t*>(outputs[1]),
                    workspace, stream);
    if (status != cudaSuccess) {
        report("D2Prune could not be launched: " + std::string(cudaGetErrorString(status)));
    }
    return status == cudaSuccess ? 0 : 1;
}

}  // namespace d2export::tensorrt
