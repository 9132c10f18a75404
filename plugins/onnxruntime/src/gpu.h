// Nodes on an NVIDIA GPU, where the library was built with CUDA.
#pragma once

#include "d2export/cuda.h"
#include "kernel.h"
#include "scratch.h"

namespace d2export::onnxruntime {

struct Gpu {
    static constexpr const char* kProvider = "CUDAExecutionProvider";

    // CUDA may put off loading a kernel until its first launch, and that may be captured in a
    // graph.
    template <typename Attributes>
    static void prepare(DataType type) {
        check("load", Attributes::kOp, cuda::prepare<Attributes>(type));
    }

    template <typename Attributes>
    static void prune(const Call& call, const Attributes& attributes) {
        const Shape& shape = call.arguments.shape;
        require_runnable(call, cuda::fault<Attributes>(shape));
        const Scratch scratch = Scratch::on_gpu(call, cuda::workspace_bytes(shape, attributes));
        check("start", Attributes::kOp,
              cuda::prune(shape, call.arguments.inputs, attributes, call.kept, call.indices,
                          scratch.data(), stream_of(call)));
    }

 private:
    // Throws what CUDA returned, if that is an error.
    static void check(const char* what, const char* op, cudaError_t status);

    // Throws `fault`, unless it is empty, and refuses memory that the kernels cannot read.
    static void require_runnable(const Call& call, const std::string& fault);

    static cudaStream_t stream_of(const Call& call);
};

}  // namespace d2export::onnxruntime
