// Nodes on an NVIDIA GPU, where the library was built with CUDA.
#pragma once

#include "d2export/cuda.h"
#include "d2export/cuda_positions.h"
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
        require_runnable(cuda::fault<Attributes>(shape));
        require_aligned("features", call.arguments.inputs.features);
        require_aligned("kept", call.kept);
        const Scratch scratch = Scratch::on_gpu(call, cuda::workspace_bytes(shape, attributes));
        check("start", Attributes::kOp,
              cuda::prune(shape, call.arguments.inputs, attributes, call.kept, call.indices,
                          scratch.data(), stream_of(call.api, call.context)));
    }

    static void select_positions(const PromptCall& call, const PositionsParameters& attributes) {
        const PromptShape& shape = call.arguments.shape;
        require_runnable(cuda::fault(shape));
        require_aligned("hidden_states", call.arguments.inputs.hidden_states);
        const Scratch scratch = Scratch::on_gpu(call, cuda::workspace_bytes(shape, attributes));
        check("start", PositionsParameters::kOp,
              cuda::select_positions(shape, call.arguments.inputs, attributes, call.positions,
                                     scratch.data(), stream_of(call.api, call.context)));
    }

 private:
    // Throws what CUDA returned, if that is an error.
    static void check(const char* what, const char* op, cudaError_t status);

    // Throws `fault`, unless it is empty.
    static void require_runnable(const std::string& fault);

    // Refuses memory that the kernels cannot read.
    static void require_aligned(const char* name, const void* memory);

    static cudaStream_t stream_of(const OrtApi& api, const OrtKernelContext& context);
};

}  // namespace d2export::onnxruntime
