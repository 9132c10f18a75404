// Ops as ONNX Runtime knows custom ops: a table of functions for each op, type and provider.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

#include "api.h"
#include "d2export/tensors.h"
#include "kernel.h"

namespace d2export::onnxruntime {

// An op on a device.
struct Form {
    const char* name;
    const char* provider;  // ONNX Runtime's name of it; null is the CPU
    std::size_t inputs;
    std::size_t outputs;
    bool of_prompt;  // D2PrunePositions
    std::unique_ptr<Kernel> (*create)(const OrtApi&, const OrtKernelInfo&, DataType);
};

template <typename Attributes, typename Device>
inline constexpr Form kForm{
    Attributes::kOp,
    Device::kProvider,
    Attributes::kInputs,
    Attributes::kOutputs,
    std::is_same_v<Attributes, PositionsParameters>,
    [](const OrtApi& api, const OrtKernelInfo& info, DataType type) -> std::unique_ptr<Kernel> {
        return std::make_unique<KernelOf<Attributes, Device>>(api, info, type);
    }};

// ONNX Runtime keeps a pointer to it and passes that to each of the functions.
struct Op : OrtCustomOp {
    Op(const OrtApi& api, const Form& form, DataType type) noexcept;

    const OrtApi& api;
    const Form& form;
    DataType type;
};

}  // namespace d2export::onnxruntime
