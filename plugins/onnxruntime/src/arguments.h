// The inputs of one call, which fit each other.
#pragma once

#include "d2export/prompt.h"
#include "tensor.h"

namespace d2export::onnxruntime {

// The first of features, importance, prior and grid.
struct Arguments {
    Shape shape;
    Inputs inputs;
    const OrtMemoryInfo* memory = nullptr;  // where they lie; ONNX Runtime's own

    // Throws Failure: a rank or length that does not fit; the input is named.
    Arguments(const OrtApi& api, const OrtKernelContext& context, DataType type, int inputs);
};

// Those of D2PrunePositions.
struct PromptArguments {
    PromptShape shape;
    PromptInputs inputs;
    const OrtMemoryInfo* memory = nullptr;

    // Throws Failure, too. Does not look at values, which may be on a GPU.
    PromptArguments(const OrtApi& api, const OrtKernelContext& context, DataType type);
};

}  // namespace d2export::onnxruntime
