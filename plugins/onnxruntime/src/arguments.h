// The tensors of one call.
#pragma once

#include <cstdint>
#include <vector>

#include "api.h"
#include "d2export/tensors.h"

namespace d2export::onnxruntime {

// ONNX Runtime's name of the type of `features` and `kept`.
ONNXTensorElementDataType element_type(DataType type) noexcept;

// Inputs that fit each other: the first of features, importance, prior and grid.
struct Arguments {
    Shape shape;
    Inputs inputs;
    const OrtMemoryInfo* memory = nullptr;  // where they lie; ONNX Runtime's own

    // Throws Failure: a rank or length that does not fit; the input is named.
    Arguments(const OrtApi& api, const OrtKernelContext& context, DataType type, int inputs);

 private:
    void read_importance(const OrtApi& api, const OrtKernelContext& context);
    void read_prior(const OrtApi& api, const OrtKernelContext& context);
    void read_grid(const OrtApi& api, const OrtKernelContext& context);
};

// Memory of an output, allocated by ONNX Runtime.
void* output(const OrtApi& api, OrtKernelContext& context, std::size_t index,
             const std::vector<std::int64_t>& extents);

}  // namespace d2export::onnxruntime
