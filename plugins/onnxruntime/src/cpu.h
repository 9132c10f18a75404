// Nodes on the CPU.
#pragma once

#include "d2export/positions.h"
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

    static void select_positions(const PromptCall& call, const PositionsParameters& attributes) {
        const PromptShape& shape = call.arguments.shape;
        const PromptInputs& inputs = call.arguments.inputs;
        if (const std::string wrong = fault(shape, inputs); !wrong.empty()) {
            throw Failure(wrong);
        }
        const Scratch scratch = Scratch::on_cpu(call, scratch_bytes(shape, attributes));
        select(shape, inputs, attributes, call.positions, scratch.data());
    }
};

}  // namespace d2export::onnxruntime
