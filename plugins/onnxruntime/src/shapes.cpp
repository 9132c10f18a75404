#include "shapes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "d2export/positions.h"

namespace d2export::onnxruntime {
namespace {

std::int64_t attribute(const OrtApi& api, const OrtShapeInferContext& context, const char* name) {
    const OrtOpAttr* found = nullptr;
    std::int64_t value = 0;
    std::size_t bytes = 0;
    const bool missing =
        failed(api, api.ShapeInferContext_GetAttribute(&context, name, &found)) ||
        failed(api, api.ReadOpAttr(found, ORT_OP_ATTR_INT, &value, sizeof value, &bytes));
    return missing ? 0 : value;
}

void set_output(const OrtApi& api, OrtShapeInferContext& context, std::size_t index,
                ONNXTensorElementDataType type, const std::vector<std::int64_t>& extents) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api, api.CreateTensorTypeAndShapeInfo(&info));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(api.ReleaseTensorTypeAndShapeInfo)>
        owned(info, api.ReleaseTensorTypeAndShapeInfo);
    check(api, api.SetTensorElementType(info, type));
    check(api, api.SetDimensions(info, extents.data(), extents.size()));
    check(api, api.ShapeInferContext_SetOutputTypeShape(&context, index, info));
}

// Of an input, if it has that rank and no unknown extent, and none above 2^31 - 1; else nothing.
std::vector<std::int64_t> known_extents(const OrtApi& api, const OrtShapeInferContext& context,
                                        std::size_t input, std::size_t expected_rank) {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // the context's own
    check(api, api.ShapeInferContext_GetInputTypeShape(&context, input, &info));
    std::size_t rank = 0;
    check(api, api.GetDimensionsCount(info, &rank));
    std::vector<std::int64_t> extents(rank);
    check(api, api.GetDimensions(info, extents.data(), rank));
    const bool known =
        rank == expected_rank && std::all_of(extents.begin(), extents.end(), [](std::int64_t e) {
            return e >= 0 && e <= std::numeric_limits<std::int32_t>::max();
        });
    return known ? extents : std::vector<std::int64_t>{};
}

// Of the node; with a fault, which is the kernel's to report, where it has none that fits.
Budget budget_of(const OrtApi& api, const OrtShapeInferContext& context) {
    Budget budget;
    budget.keep = attribute(api, context, "keep");
    budget.keep_permille = attribute(api, context, "keep_permille");
    return budget;
}

}  // namespace

void infer_shapes(const OrtApi& api, OrtShapeInferContext& context,
                  ONNXTensorElementDataType type) {
    const auto extents = known_extents(api, context, 0, 3);
    const Budget budget = budget_of(api, context);
    if (extents.empty() || !budget.fault().empty()) {
        return;
    }
    const std::int64_t kept = budget.kept(static_cast<std::int32_t>(extents[1]));
    set_output(api, context, 0, type, {extents[0], kept, extents[2]});
    set_output(api, context, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {extents[0], kept});
}

void infer_positions(const OrtApi& api, OrtShapeInferContext& context) {
    const auto states = known_extents(api, context, 0, 3);
    const auto tokens = known_extents(api, context, 4, 1);
    const auto images = known_extents(api, context, 5, 1);
    const Budget budget = budget_of(api, context);
    if (states.empty() || tokens.empty() || images.empty() || tokens[0] > states[1] ||
        !budget.fault().empty()) {
        return;
    }
    PromptShape shape;
    shape.length = static_cast<std::int32_t>(states[1]);
    shape.tokens = static_cast<std::int32_t>(tokens[0]);
    shape.images = static_cast<std::int32_t>(images[0]);
    set_output(api, context, 0, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {surviving(shape, budget)});
}

}  // namespace d2export::onnxruntime
