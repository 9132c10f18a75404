// What computes one D2Prune node.
#pragma once

#include <cstdint>

#include "api.h"
#include "arguments.h"
#include "d2export/parameters.h"

namespace d2export::onnxruntime {

// One call of the op, with the outputs that it fills.
struct Call {
    const OrtApi& api;
    const OrtKernelContext& context;
    const Arguments& arguments;
    const Parameters& parameters;
    void* kept;             // [B, M, C]
    std::int32_t* indices;  // [B, M]
};

// Throw Failure.
void prune_on_cpu(const Call& call);
void prune_on_gpu(const Call& call);  // where the library was built with CUDA

// Reentrant: ONNX Runtime runs one session on several threads.
class Kernel {
 public:
    Kernel(const OrtApi& api, const OrtKernelInfo& info, DataType type, void (*prune)(const Call&));

    // Never throws: what goes wrong is the status.
    OrtStatus* compute(OrtKernelContext& context) const noexcept;

 private:
    const OrtApi& api_;
    const Parameters parameters_;
    const DataType type_;
    void (*const prune_)(const Call&);
};

}  // namespace d2export::onnxruntime
