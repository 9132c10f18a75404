#include "d2export/select.h"
#include "kernel.h"
#include "scratch.h"

namespace d2export::onnxruntime {
namespace {

void prune_on_cpu(const Call& call) {
    const Shape& shape = call.arguments.shape;
    const Inputs& inputs = call.arguments.inputs;
    const Scratch scratch = Scratch::on_cpu(call, scratch_bytes(shape, call.parameters));
    select(shape, inputs, call.parameters, call.indices, scratch.data());
    gather(shape, inputs, call.parameters.kept(shape.tokens), call.indices, call.kept);
}

}  // namespace

const Device kCpu{nullptr, [](DataType) {}, prune_on_cpu};

}  // namespace d2export::onnxruntime
