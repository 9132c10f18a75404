#include "arguments.h"

#include <cstddef>
#include <limits>
#include <memory>
#include <string>

namespace d2export::onnxruntime {
namespace {

using Extents = std::vector<std::int64_t>;

std::string listed(const Extents& extents) {
    std::string text = "[";
    for (std::size_t i = 0; i < extents.size(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(extents[i]);
    }
    return text + "]";
}

// One input: its extents and where its values are. The types are ONNX Runtime's to check.
struct Tensor {
    const char* name;
    const OrtValue* value = nullptr;
    Extents extents;
    const void* data = nullptr;

    Tensor(const OrtApi& api, const OrtKernelContext& context, std::size_t index,
           const char* its_name)
        : name(its_name) {
        check(api, api.KernelContext_GetInput(&context, index, &value));
        OrtTensorTypeAndShapeInfo* info = nullptr;
        check(api, api.GetTensorTypeAndShape(value, &info));
        const std::unique_ptr<OrtTensorTypeAndShapeInfo,
                              decltype(api.ReleaseTensorTypeAndShapeInfo)>
            owned(info, api.ReleaseTensorTypeAndShapeInfo);
        std::size_t rank = 0;
        check(api, api.GetDimensionsCount(info, &rank));
        extents.resize(rank);
        check(api, api.GetDimensions(info, extents.data(), rank));
        void* memory = nullptr;  // the C interface has no getter for const data before 1.23
        check(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &memory));
        data = memory;
    }

    void require(bool fits, const std::string& expected) const {
        if (!fits) {
            throw Failure(std::string(name) + " has shape " + listed(extents) + ", expected " +
                          expected);
        }
    }

    std::int32_t extent(std::size_t axis) const {
        constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
        require(extents[axis] <= kLargest, "no extent above " + std::to_string(kLargest));
        return static_cast<std::int32_t>(extents[axis]);
    }
};

}  // namespace

ONNXTensorElementDataType element_type(DataType type) noexcept {
    switch (type) {
        case DataType::kFloat16:
            return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
        case DataType::kBFloat16:
            return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
        case DataType::kFloat32:
            break;
    }
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

Arguments::Arguments(const OrtApi& api, const OrtKernelContext& context, DataType type, int count) {
    const Tensor features(api, context, 0, "features");
    features.require(features.extents.size() == 3, "[B, N, C]");
    shape.batch = features.extent(0);
    shape.tokens = features.extent(1);
    shape.channels = features.extent(2);
    inputs.features = features.data;
    inputs.type = type;
    check(api, api.GetTensorMemoryInfo(features.value, &memory));
    if (count > 1) {
        read_importance(api, context);
    }
    if (count > 2) {
        read_prior(api, context);
    }
    if (count > 3) {
        read_grid(api, context);
    }
}

void Arguments::read_importance(const OrtApi& api, const OrtKernelContext& context) {
    const Tensor importance(api, context, 1, "importance");
    const bool per_head = importance.extents.size() == 3;
    const std::string batch = std::to_string(shape.batch);
    const std::string tokens = std::to_string(shape.tokens);
    importance.require((per_head || importance.extents.size() == 2) &&
                           importance.extents.front() == shape.batch &&
                           importance.extents.back() == shape.tokens,
                       "[" + batch + ", " + tokens + "] or [" + batch + ", H, " + tokens + "]");
    shape.heads = per_head ? importance.extent(1) : 1;
    importance.require(shape.heads > 0, "at least 1 head");
    inputs.importance = static_cast<const float*>(importance.data);
}

void Arguments::read_prior(const OrtApi& api, const OrtKernelContext& context) {
    const Tensor prior(api, context, 2, "prior");
    prior.require(prior.extents == Extents{shape.tokens}, "[" + std::to_string(shape.tokens) + "]");
    inputs.prior = static_cast<const float*>(prior.data);
}

void Arguments::read_grid(const OrtApi& api, const OrtKernelContext& context) {
    const Tensor grid(api, context, 3, "grid");
    grid.require(grid.extents == Extents{shape.tokens, 2},
                 "[" + std::to_string(shape.tokens) + ", 2]");
    inputs.grid = static_cast<const float*>(grid.data);
}

void* output(const OrtApi& api, OrtKernelContext& context, std::size_t index,
             const Extents& extents) {
    OrtValue* value = nullptr;
    check(api,
          api.KernelContext_GetOutput(&context, index, extents.data(), extents.size(), &value));
    void* memory = nullptr;
    check(api, api.GetTensorMutableData(value, &memory));
    return memory;
}

}  // namespace d2export::onnxruntime
