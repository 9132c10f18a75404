// D2Prune as ONNX Runtime knows custom ops: a table of functions for each type and provider.
#pragma once

#include "api.h"
#include "d2export/tensors.h"
#include "kernel.h"

namespace d2export::onnxruntime {

// ONNX Runtime keeps a pointer to it and passes that to each of the functions.
struct Op : OrtCustomOp {
    Op(const OrtApi& api, DataType type, const Device& device) noexcept;

    const OrtApi& api;
    DataType type;
    const Device& device;
};

}  // namespace d2export::onnxruntime
