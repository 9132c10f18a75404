// Nodes on the CPU.
#pragma once

#include "d2export/select.h"
#include "kernel.h"
#include "scratch.h"

namespace d2export::onnxruntime {

struct Cpu {
    static constexpr const char* kProvider = nullptr;  // as ONNX Runtime has it

    template <typename Attributes>
    static void prepare(DataType) noexcept {}

    template <typename Attributes>
    static void prune(const Call& call, const Attributes& attributes) {
        const Shape& shape = call.arguments.shape;
        const Inputs& inputs = call.arguments.inputs;
        const Scratch scratch = Scratch::on_cpu(call, scratch_bytes(shape, attributes));
        select(shape, inputs, attributes, call.indices, scratch.data());
        gather(shape, inputs, attributes.kept(shape.tokens), call.indices, call.kept);
    }
};

}  // namespace d2export::onnxruntime
