#include "shapes.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "d2export/budget.h"

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

}  // namespace

void infer_shapes(const OrtApi& api, OrtShapeInferContext& context,
                  ONNXTensorElementDataType type) {
    OrtTensorTypeAndShapeInfo* features = nullptr;  // the context's own
    check(api, api.ShapeInferContext_GetInputTypeShape(&context, 0, &features));
    std::array<std::int64_t, 3> extents{};
    std::size_t rank = 0;
    check(api, api.GetDimensionsCount(features, &rank));
    if (rank != extents.size()) {
        return;
    }
    check(api, api.GetDimensions(features, extents.data(), rank));
    Budget budget;
    budget.keep = attribute(api, context, "keep");
    budget.keep_permille = attribute(api, context, "keep_permille");
    const auto [smallest, largest] = std::minmax_element(extents.begin(), extents.end());
    const bool known = *smallest >= 0 && *largest <= std::numeric_limits<std::int32_t>::max();
    if (!known || !budget.fault().empty()) {  // a fault is the kernel's to report
        return;
    }
    const std::int64_t kept = budget.kept(static_cast<std::int32_t>(extents[1]));
    set_output(api, context, 0, type, {extents[0], kept, extents[2]});
    set_output(api, context, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {extents[0], kept});
}

}  // namespace d2export::onnxruntime
