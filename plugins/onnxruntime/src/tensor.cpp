#include "tensor.h"

#include <limits>
#include <memory>

namespace d2export::onnxruntime {
namespace {

std::string listed(const Extents& extents) {
    std::string text = "[";
    for (std::size_t i = 0; i < extents.size(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(extents[i]);
    }
    return text + "]";
}

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

Tensor::Tensor(const OrtApi& api, const OrtKernelContext& context, std::size_t index,
               const char* its_name)
    : name(its_name) {
    check(api, api.KernelContext_GetInput(&context, index, &value));
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api, api.GetTensorTypeAndShape(value, &info));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(api.ReleaseTensorTypeAndShapeInfo)>
        owned(info, api.ReleaseTensorTypeAndShapeInfo);
    std::size_t rank = 0;
    check(api, api.GetDimensionsCount(info, &rank));
    extents.resize(rank);
    check(api, api.GetDimensions(info, extents.data(), rank));
    void* memory = nullptr;  // the C interface has no getter for const data before 1.23
    check(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &memory));
    data = memory;
}

void Tensor::require(bool fits, const std::string& expected) const {
    if (!fits) {
        throw Failure(std::string(name) + " has shape " + listed(extents) + ", expected " +
                      expected);
    }
}

std::int32_t Tensor::extent(std::size_t axis) const {
    constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
    require(extents[axis] <= kLargest, "no extent above " + std::to_string(kLargest));
    return static_cast<std::int32_t>(extents[axis]);
}

std::int32_t heads_of(const Tensor& importance, std::int32_t batch, std::int32_t tokens) {
    const bool per_head = importance.extents.size() == 3;
    const std::string pictures = std::to_string(batch);
    const std::string last = std::to_string(tokens);
    importance.require((per_head || importance.extents.size() == 2) &&
                           importance.extents.front() == batch &&
                           importance.extents.back() == tokens,
                       "[" + pictures + ", " + last + "] or [" + pictures + ", H, " + last + "]");
    const std::int32_t heads = per_head ? importance.extent(1) : 1;
    importance.require(heads > 0, "at least 1 head");
    return heads;
}

void require_prior(const Tensor& prior, std::int32_t tokens) {
    prior.require(prior.extents == Extents{tokens}, "[" + std::to_string(tokens) + "]");
}

void require_grid(const Tensor& grid, std::int32_t tokens) {
    grid.require(grid.extents == Extents{tokens, 2}, "[" + std::to_string(tokens) + ", 2]");
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
