#include "tensors.h"

#include <array>

#include "d2export/cuda.h"
#include "extents.h"
#include "report.h"

namespace d2export::tensorrt {
namespace {

using nvinfer1::DimensionOperation;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::IDimensionExpr;
using nvinfer1::IExprBuilder;

// M = min(keep, N), or min(max(1, N * permille / 1000), N).
const IDimensionExpr* kept_extent(const IDimensionExpr& tokens, const Budget& budget,
                                  IExprBuilder& builder) noexcept {
    const auto number = [&builder](std::int64_t value) { return number_of(value, builder); };
    const IDimensionExpr* wanted = number(budget.keep);
    if (budget.keep == 0) {
        const IDimensionExpr* const thousandths =
            builder.operation(DimensionOperation::kPROD, tokens, *number(budget.keep_permille));
        wanted = builder.operation(
            DimensionOperation::kMAX, *number(1),
            *builder.operation(DimensionOperation::kFLOOR_DIV, *thousandths, *number(1000)));
    }
    return builder.operation(DimensionOperation::kMIN, *wanted, tokens);
}

// features, importance and prior
std::string names_of(std::int32_t inputs) {
    constexpr const char* kNames[kMostInputs] = {"features", "importance", "prior", "grid"};
    std::string names = kNames[0];
    for (std::int32_t i = 1; i < inputs; ++i) {
        names += std::string(i + 1 < inputs ? ", " : " and ") + kNames[i];
    }
    return names;
}

std::string wrong_count(std::int32_t count, std::int32_t expected) {
    return "it has " + std::to_string(count) + " inputs, expected " + names_of(expected);
}

// Extents of an op's inputs; of those that it does not have, none.
using Extents = std::array<Dims, kMostInputs>;

template <typename Attributes>
Extents extents_of(const nvinfer1::PluginTensorDesc* inputs) noexcept {
    Extents extents{};
    for (std::size_t i = 0; i < Attributes::kInputs; ++i) {
        extents[i] = inputs[i].dims;
    }
    return extents;
}

template <typename Attributes>
Extents extents_of(const nvinfer1::DynamicPluginTensorDesc* inputs) noexcept {
    Extents extents{};
    for (std::size_t i = 0; i < Attributes::kInputs; ++i) {
        extents[i] = inputs[i].max;
    }
    return extents;
}

Shape shape_of(const Extents& inputs) noexcept {
    const auto& [features, importance, prior, grid] = inputs;
    Shape shape;
    shape.batch = static_cast<std::int32_t>(features.d[0]);
    shape.heads = importance.nbDims == 3 ? static_cast<std::int32_t>(importance.d[1]) : 1;
    shape.tokens = static_cast<std::int32_t>(features.d[1]);
    shape.channels = static_cast<std::int32_t>(features.d[2]);
    return shape;
}

// Of an op with so many inputs.
std::string fault(const Extents& inputs, std::int32_t count) {
    const auto& [features, importance, prior, grid] = inputs;
    if (features.nbDims != 3) {
        return "features has shape " + text_of(features) + ", expected [B, N, C]";
    }
    const std::int32_t last = importance.nbDims - 1;
    if (count > 1 &&
        ((last != 1 && last != 2) || !agree(importance.d[0], features.d[0]) ||
         !agree(importance.d[last], features.d[1]) || (last == 2 && importance.d[1] == 0))) {
        return "importance has shape " + text_of(importance) +
               ", expected [B, N] or [B, H, N] for features " + text_of(features);
    }
    if (count > 2 && (prior.nbDims != 1 || !agree(prior.d[0], features.d[1]))) {
        return "prior has shape " + text_of(prior) + ", expected [N] for features " +
               text_of(features);
    }
    if (count > 3 &&
        (grid.nbDims != 2 || !agree(grid.d[0], features.d[1]) || !agree(grid.d[1], 2))) {
        return "grid has shape " + text_of(grid) + ", expected [N, 2] for features " +
               text_of(features);
    }
    if (too_large(features) || too_large(importance)) {
        return "features has shape " + text_of(features) +
               (count > 1 ? " and importance " + text_of(importance) : "") +
               ", expected extents below 2^31";
    }
    return {};
}

template <typename Attributes>
std::string fault(const Extents& inputs) {
    const std::string wrong = fault(inputs, Attributes::kInputs);
    return wrong.empty() ? cuda::fault<Attributes>(shape_of(inputs)) : wrong;
}

}  // namespace

DimsExprs output_extents(std::int32_t output, const DimsExprs* inputs, const Budget& budget,
                         IExprBuilder& builder) noexcept {
    const DimsExprs& features = inputs[0];
    DimsExprs extents{};
    extents.nbDims = output == 0 ? 3 : 2;
    extents.d[0] = features.d[0];
    extents.d[1] = kept_extent(*features.d[1], budget, builder);
    if (output == 0) {
        extents.d[2] = features.d[2];
    }
    return extents;
}

template <typename Attributes>
nvinfer1::DataType output_type(std::int32_t output, nvinfer1::DataType features) noexcept {
    return output == 0 ? features : nvinfer1::DataType::kINT32;
}

template <typename Attributes>
bool supports(std::int32_t position, const nvinfer1::PluginTensorDesc& tensor,
              const nvinfer1::PluginTensorDesc& features) noexcept {
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) {
        return false;
    }
    if (position == 0) {
        return is_feature_type(tensor.type);
    }
    if (position < Attributes::kInputs) {
        return tensor.type == nvinfer1::DataType::kFLOAT;
    }
    return tensor.type == output_type<Attributes>(position - Attributes::kInputs, features.type);
}

template <typename Attributes>
std::string fault(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t count) {
    return count == Attributes::kInputs ? fault<Attributes>(extents_of<Attributes>(inputs))
                                        : wrong_count(count, Attributes::kInputs);
}

template <typename Attributes>
std::string fault(const nvinfer1::PluginTensorDesc* inputs, std::int32_t count) {
    return count == Attributes::kInputs ? fault<Attributes>(extents_of<Attributes>(inputs))
                                        : wrong_count(count, Attributes::kInputs);
}

template <typename Attributes>
std::string fault(const DimsExprs* inputs, std::int32_t count) {
    if (count != Attributes::kInputs) {
        return wrong_count(count, Attributes::kInputs);
    }
    if (inputs[0].nbDims != 3) {
        return "features has " + std::to_string(inputs[0].nbDims) +
               " dimensions, expected [B, N, C]";
    }
    return {};
}

// The same for all ops.
template <typename Attributes>
void prepare(nvinfer1::DataType features) noexcept {
    const cudaError_t status = cuda::prepare<Attributes>(type_of(features));
    if (status != cudaSuccess) {
        report(std::string(Attributes::kOp) +
               " could not be loaded: " + cudaGetErrorString(status));
    }
}

template <typename Attributes>
std::size_t workspace_bytes(const nvinfer1::DynamicPluginTensorDesc* inputs,
                            const Attributes& attributes) noexcept {
    return cuda::workspace_bytes(shape_of(extents_of<Attributes>(inputs)), attributes);
}

template <typename Attributes>
std::size_t workspace_bytes(const nvinfer1::PluginTensorDesc* inputs,
                            const Attributes& attributes) noexcept {
    return cuda::workspace_bytes(shape_of(extents_of<Attributes>(inputs)), attributes);
}

template <typename Attributes>
std::int32_t enqueue(const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                     void* const* outputs, void* workspace, const Attributes& attributes,
                     cudaStream_t stream) noexcept {
    const std::string op = Attributes::kOp;
    const std::string wrong = fault<Attributes>(descriptions, Attributes::kInputs);
    if (!wrong.empty()) {
        report(op + ": " + wrong);
        return 1;
    }
    const auto input = [inputs](std::int32_t i) {
        return i < Attributes::kInputs ? static_cast<const float*>(inputs[i]) : nullptr;
    };
    const Inputs tensors{inputs[0], input(1), input(2), input(3), type_of(descriptions[0].type)};
    const cudaError_t status =
        cuda::prune(shape_of(extents_of<Attributes>(descriptions)), tensors, attributes, outputs[0],
                    static_cast<std::int32_t*>(outputs[1]), workspace, stream);
    if (status != cudaSuccess) {
        report(op + " could not be launched: " + cudaGetErrorString(status));
    }
    return status == cudaSuccess ? 0 : 1;
}

#define D2EXPORT_OP(Attributes)                                                              \
    template std::string fault<Attributes>(const nvinfer1::DynamicPluginTensorDesc*,         \
                                           std::int32_t);                                    \
    template std::string fault<Attributes>(const nvinfer1::PluginTensorDesc*, std::int32_t); \
    template std::string fault<Attributes>(const DimsExprs*, std::int32_t);                  \
    template nvinfer1::DataType output_type<Attributes>(std::int32_t,                        \
                                                        nvinfer1::DataType) noexcept;        \
    template bool supports<Attributes>(std::int32_t, const nvinfer1::PluginTensorDesc&,      \
                                       const nvinfer1::PluginTensorDesc&) noexcept;          \
    template void prepare<Attributes>(nvinfer1::DataType) noexcept;                          \
    template std::size_t workspace_bytes(const nvinfer1::DynamicPluginTensorDesc*,           \
                                         const Attributes&) noexcept;                        \
    template std::size_t workspace_bytes(const nvinfer1::PluginTensorDesc*,                  \
                                         const Attributes&) noexcept;                        \
    template std::int32_t enqueue(const nvinfer1::PluginTensorDesc*, const void* const*,     \
                                  void* const*, void*, const Attributes&, cudaStream_t) noexcept;
D2EXPORT_EACH_PRUNE_OP(D2EXPORT_OP)
#undef D2EXPORT_OP
template void prepare<PositionsParameters>(nvinfer1::DataType) noexcept;

}  // namespace d2export::tensorrt
