// TensorRT's symbolic extents, computed right here: known numbers, or -1 where any part is unknown.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdint>
#include <deque>

namespace d2export::tests {

#if NV_TENSORRT_MAJOR >= 10
using Extent = std::int64_t;
#else
using Extent = std::int32_t;
#endif

class Expression final : public nvinfer1::IDimensionExpr, public nvinfer1::apiv::VDimensionExpr {
 public:
    explicit Expression(Extent value) : value_(value) { mImpl = this; }
    bool isConstant() const override { return value_ >= 0; }
    Extent getConstantValue() const override { return value_; }
#if NV_TENSORRT_MAJOR >= 10
    bool isSizeTensor() const override { return false; }
#endif

 private:
    Extent value_;
};

class Builder final : public nvinfer1::IExprBuilder, public nvinfer1::apiv::VExprBuilder {
 public:
    Builder() { mImpl = this; }

    const nvinfer1::IDimensionExpr* constant(Extent value) override {
        made_.emplace_back(value);
        return &made_.back();
    }

    const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation operation,
                                              const nvinfer1::IDimensionExpr& first,
                                              const nvinfer1::IDimensionExpr& second) override {
        const Extent a = first.getConstantValue();
        const Extent b = second.getConstantValue();
        return constant(a < 0 || b < 0 ? -1 : compute(operation, a, b));
    }
#if NV_TENSORRT_MAJOR >= 10
    const nvinfer1::IDimensionExpr* declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                      const nvinfer1::IDimensionExpr&) override {
        return nullptr;
    }
#endif

 private:
    static Extent compute(nvinfer1::DimensionOperation operation, Extent a, Extent b) {
        switch (operation) {
            case nvinfer1::DimensionOperation::kSUM:
                return a + b;
            case nvinfer1::DimensionOperation::kSUB:
                return a - b;
            case nvinfer1::DimensionOperation::kPROD:
                return a * b;
            case nvinfer1::DimensionOperation::kMAX:
                return std::max(a, b);
            case nvinfer1::DimensionOperation::kMIN:
                return std::min(a, b);
            case nvinfer1::DimensionOperation::kFLOOR_DIV:
                return a / b;
            default:
                return -2;  // an operation the plugin has no use for
        }
    }

    std::deque<Expression> made_;
};

}  // namespace d2export::tests
