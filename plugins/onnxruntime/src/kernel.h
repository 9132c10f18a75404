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

// What nodes run on. Both functions throw Failure.
struct Device {
    const char* provider;       // ONNX Runtime's name of it; null is the CPU
    void (*prepare)(DataType);  // once for each node, before its calls, none of them under way
    void (*prune)(const Call&);
};
extern const Device kCpu;
extern const Device kGpu;  // where the library was built with CUDA

// Reentrant: ONNX Runtime runs one session on several threads.
class Kernel {
 public:
    Kernel(const OrtApi& api, const OrtKernelInfo& info, DataType type, const Device& device);

    // Never throws: what goes wrong is the status.
    OrtStatus* compute(OrtKernelContext& context) const noexcept;

 private:
    const OrtApi& api_;
    const Parameters parameters_;
    const DataType type_;
    const Device& device_;
};

}  // namespace d2export::onnxruntime
