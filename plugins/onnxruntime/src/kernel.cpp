#include "kernel.h"

#include "attributes.h"

namespace d2export::onnxruntime {

Kernel::Kernel(const OrtApi& api, const OrtKernelInfo& info, DataType type, const Device& device)
    : api_(api), parameters_(read_parameters(api, info)), type_(type), device_(device) {
    device_.prepare(type);
}

OrtStatus* Kernel::compute(OrtKernelContext& context) const noexcept {
    return guarded(api_, [&] {
        const Arguments arguments(api_, context, type_);
        const Shape& shape = arguments.shape;
        const std::int32_t tokens = parameters_.kept(shape.tokens);
        void* const kept = output(api_, context, 0, {shape.batch, tokens, shape.channels});
        void* const indices = output(api_, context, 1, {shape.batch, tokens});
        device_.prune(
            {api_, context, arguments, parameters_, kept, static_cast<std::int32_t*>(indices)});
    });
}

}  // namespace d2export::onnxruntime
