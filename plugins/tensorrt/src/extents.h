// TensorRT's extents and element types, one at a time.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "d2export/tensors.h"

namespace d2export::tensorrt {

// A constant; extents are no larger.
inline const nvinfer1::IDimensionExpr* number_of(std::int64_t value,
                                                 nvinfer1::IExprBuilder& builder) noexcept {
    return builder.constant(static_cast<std::int32_t>(
        std::min<std::int64_t>(value, std::numeric_limits<std::int32_t>::max())));
}

inline std::string text_of(const nvinfer1::Dims& extents) {
    std::string text = "[";
    for (std::int32_t i = 0; i < extents.nbDims; ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(extents.d[i]);
    }
    return text + "]";
}

// Whether two extents may be the same; those still unknown are -1.
inline bool agree(std::int64_t a, std::int64_t b) noexcept { return a == b || a < 0 || b < 0; }

// Of features that the ops support.
inline DataType type_of(nvinfer1::DataType type) noexcept {
    switch (type) {
        case nvinfer1::DataType::kHALF:
            return DataType::kFloat16;
        case nvinfer1::DataType::kFLOAT:
            return DataType::kFloat32;
        default:
            return DataType::kBFloat16;  // supports() allows no other
    }
}

inline bool is_feature_type(nvinfer1::DataType type) noexcept {
#if NV_TENSORRT_MAJOR >= 10
    if (type == nvinfer1::DataType::kBF16) {
        return true;
    }
#endif
    return type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kHALF;
}

// From TensorRT 10 on extents are int64.
inline bool too_large(const nvinfer1::Dims& extents) noexcept {
    return std::any_of(extents.d, extents.d + extents.nbDims, [](std::int64_t extent) {
        return extent > std::numeric_limits<std::int32_t>::max();
    });
}

}  // namespace d2export::tensorrt
