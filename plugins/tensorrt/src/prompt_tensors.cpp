#include <array>

#include "d2export/cuda_positions.h"
#include "extents.h"
#include "report.h"
#include "tensors.h"

namespace d2export::tensorrt {
namespace {

using nvinfer1::DimensionOperation;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::IDimensionExpr;
using nvinfer1::IExprBuilder;

constexpr std::size_t kInputs = PositionsParameters::kInputs;

// Where each input is.
enum Place : std::size_t {
    kHiddenStates,
    kImportance,
    kPrior,
    kGrid,
    kVisualPositions,
    kImageLengths
};

using Extents = std::array<Dims, kInputs>;

Extents extents_of(const nvinfer1::PluginTensorDesc* inputs) noexcept {
    Extents extents{};
    std::transform(inputs, inputs + kInputs, extents.begin(),
                   [](const nvinfer1::PluginTensorDesc& input) { return input.dims; });
    return extents;
}

Extents extents_of(const nvinfer1::DynamicPluginTensorDesc* inputs) noexcept {
    Extents extents{};
    std::transform(inputs, inputs + kInputs, extents.begin(),
                   [](const nvinfer1::DynamicPluginTensorDesc& input) { return input.max; });
    return extents;
}

PromptShape shape_of(const Extents& inputs) noexcept {
    const Dims& importance = inputs[kImportance];
    PromptShape shape;
    shape.heads = importance.nbDims == 3 ? static_cast<std::int32_t>(importance.d[1]) : 1;
    shape.length = static_cast<std::int32_t>(inputs[kHiddenStates].d[1]);
    shape.channels = static_cast<std::int32_t>(inputs[kHiddenStates].d[2]);
    shape.tokens = static_cast<std::int32_t>(inputs[kVisualPositions].d[0]);
    shape.images = static_cast<std::int32_t>(inputs[kImageLengths].d[0]);
    return shape;
}

std::string fault(const Extents& inputs) {
    const auto& [states, importance, prior, grid, positions, lengths] = inputs;
    if (states.nbDims != 3 || !agree(states.d[0], 1)) {
        return "hidden_states has shape " + text_of(states) + ", expected [1, T, C]";
    }
    const std::int32_t last = importance.nbDims - 1;
    if ((last != 1 && last != 2) || !agree(importance.d[0], 1) ||
        !agree(importance.d[last], states.d[1]) || (last == 2 && importance.d[1] == 0)) {
        return "importance has shape " + text_of(importance) +
               ", expected [1, T] or [1, H, T] for hidden_states " + text_of(states);
    }
    if (positions.nbDims != 1 || (states.d[1] >= 0 && positions.d[0] > states.d[1])) {
        return "visual_positions has shape " + text_of(positions) +
               ", expected [V], no more than hidden_states " + text_of(states) + " has tokens";
    }
    if (prior.nbDims != 1 || !agree(prior.d[0], positions.d[0])) {
        return "prior has shape " + text_of(prior) + ", expected [V] for visual_positions " +
               text_of(positions);
    }
    if (grid.nbDims != 2 || !agree(grid.d[0], positions.d[0]) || !agree(grid.d[1], 2)) {
        return "grid has shape " + text_of(grid) + ", expected [V, 2] for visual_positions " +
               text_of(positions);
    }
    if (lengths.nbDims != 1) {
        return "image_lengths has shape " + text_of(lengths) + ", expected [I]";
    }
    if (too_large(states) || too_large(importance) || too_large(lengths)) {
        return "hidden_states has shape " + text_of(states) + ", importance " +
               text_of(importance) + " and image_lengths " + text_of(lengths) +
               ", expected extents below 2^31";
    }
    return cuda::fault(shape_of(inputs));
}

std::string wrong_count(std::int32_t count) {
    return "it has " + std::to_string(count) +
           " inputs, expected hidden_states, importance, prior, grid, visual_positions and "
           "image_lengths";
}

bool is_narrow(nvinfer1::DataType type) noexcept { return type == nvinfer1::DataType::kINT32; }

bool is_whole(nvinfer1::DataType type) noexcept {
#if NV_TENSORRT_MAJOR >= 10
    if (type == nvinfer1::DataType::kINT64) {
        return true;
    }
#endif
    return is_narrow(type);
}

// n = min(I * keep, V), or min(max(I, V * permille / 1000), V).
const IDimensionExpr* kept_extent(const IDimensionExpr& images, const IDimensionExpr& tokens,
                                  const Budget& budget, IExprBuilder& builder) noexcept {
    const auto apply = [&builder](DimensionOperation operation, const IDimensionExpr* a,
                                  const IDimensionExpr* b) {
        return builder.operation(operation, *a, *b);
    };
    const IDimensionExpr* wanted = nullptr;
    if (budget.keep > 0) {  // no more than V, so that the product fits
        const auto* const keep =
            apply(DimensionOperation::kMIN, number_of(budget.keep, builder), &tokens);
        wanted = apply(DimensionOperation::kPROD, &images, keep);
    } else {
        const auto* const thousandths =
            apply(DimensionOperation::kPROD, &tokens, number_of(budget.keep_permille, builder));
        wanted =
            apply(DimensionOperation::kMAX, &images,
                  apply(DimensionOperation::kFLOOR_DIV, thousandths, number_of(1000, builder)));
    }
    return apply(DimensionOperation::kMIN, wanted, &tokens);
}

}  // namespace

DimsExprs output_extents(std::int32_t, const DimsExprs* inputs, const PositionsParameters& budget,
                         IExprBuilder& builder) noexcept {
    const IDimensionExpr& length = *inputs[kHiddenStates].d[1];
    const IDimensionExpr& tokens = *inputs[kVisualPositions].d[0];
    const IDimensionExpr& images = *inputs[kImageLengths].d[0];
    const auto* const text = builder.operation(DimensionOperation::kSUB, length, tokens);
    DimsExprs extents{};
    extents.nbDims = 1;
    extents.d[0] = builder.operation(DimensionOperation::kSUM, *text,
                                     *kept_extent(images, tokens, budget, builder));
    return extents;
}

template <>
nvinfer1::DataType output_type<PositionsParameters>(std::int32_t, nvinfer1::DataType) noexcept {
    return nvinfer1::DataType::kINT32;
}

template <>
bool supports<PositionsParameters>(std::int32_t position, const nvinfer1::PluginTensorDesc& tensor,
                                   const nvinfer1::PluginTensorDesc&) noexcept {
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) {
        return false;
    }
    switch (position) {
        case kHiddenStates:
            return is_feature_type(tensor.type);
        case kImportance:
        case kPrior:
        case kGrid:
            return tensor.type == nvinfer1::DataType::kFLOAT;
        case kVisualPositions:
        case kImageLengths:
            return is_whole(tensor.type);
        default:
            return is_narrow(tensor.type);
    }
}

template <>
std::string fault<PositionsParameters>(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                       std::int32_t count) {
    return count == kInputs ? fault(extents_of(inputs)) : wrong_count(count);
}

template <>
std::string fault<PositionsParameters>(const nvinfer1::PluginTensorDesc* inputs,
                                       std::int32_t count) {
    return count == kInputs ? fault(extents_of(inputs)) : wrong_count(count);
}

template <>
std::string fault<PositionsParameters>(const DimsExprs* inputs, std::int32_t count) {
    if (count != kInputs) {
        return wrong_count(count);
    }
    if (inputs[kHiddenStates].nbDims != 3) {
        return "hidden_states has " + std::to_string(inputs[kHiddenStates].nbDims) +
               " dimensions, expected [1, T, C]";
    }
    for (const auto& [place, name] : {std::pair{kVisualPositions, "visual_positions"},
                                      std::pair{kImageLengths, "image_lengths"}}) {
        if (inputs[place].nbDims != 1) {
            return std::string(name) + " has " + std::to_string(inputs[place].nbDims) +
                   " dimensions, expected 1";
        }
    }
    return {};
}

template <>
std::size_t workspace_bytes(const nvinfer1::DynamicPluginTensorDesc* inputs,
                            const PositionsParameters& attributes) noexcept {
    return cuda::workspace_bytes(shape_of(extents_of(inputs)), attributes);
}

template <>
std::size_t workspace_bytes(const nvinfer1::PluginTensorDesc* inputs,
                            const PositionsParameters& attributes) noexcept {
    return cuda::workspace_bytes(shape_of(extents_of(inputs)), attributes);
}

template <>
std::int32_t enqueue(const nvinfer1::PluginTensorDesc* descriptions, const void* const* inputs,
                     void* const* outputs, void* workspace, const PositionsParameters& attributes,
                     cudaStream_t stream) noexcept {
    const std::string op = PositionsParameters::kOp;
    const Extents extents = extents_of(descriptions);
    const std::string wrong = fault(extents);
    if (!wrong.empty()) {
        report(op + ": " + wrong);
        return 1;
    }
    const auto floats = [inputs](Place place) { return static_cast<const float*>(inputs[place]); };
    const auto integers = [&](Place place) {
        return Integers{inputs[place], is_narrow(descriptions[place].type)};
    };
    const PromptInputs tensors{inputs[kHiddenStates],
                               floats(kImportance),
                               floats(kPrior),
                               floats(kGrid),
                               integers(kVisualPositions),
                               integers(kImageLengths),
                               type_of(descriptions[kHiddenStates].type)};
    const cudaError_t status =
        cuda::select_positions(shape_of(extents), tensors, attributes,
                               static_cast<std::int32_t*>(outputs[0]), workspace, stream);
    if (status != cudaSuccess) {
        report(op + " could not be launched: " + cudaGetErrorString(status));
    }
    return status == cudaSuccess ? 0 : 1;
}

}  // namespace d2export::tensorrt
