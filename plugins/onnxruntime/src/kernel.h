// What computes one node.
#pragma once

#include <cstdint>
#include <type_traits>

#include "api.h"
#include "arguments.h"
#include "attributes.h"
#include "d2export/positions.h"

namespace d2export::onnxruntime {

// One call of an op, with the outputs that it fills.
struct Call {
    const OrtApi& api;
    const OrtKernelContext& context;
    const Arguments& arguments;
    void* kept;             // [B, M, C]
    std::int32_t* indices;  // [B, M]
};

// The same of D2PrunePositions.
struct PromptCall {
    const OrtApi& api;
    const OrtKernelContext& context;
    const PromptArguments& arguments;
    std::int32_t* positions;  // [T - V + n]
};

// Reentrant: ONNX Runtime runs one session on several threads.
class Kernel {
 public:
    explicit Kernel(const OrtApi& api) noexcept : api_(api) {}
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    virtual ~Kernel() = default;

    // Never throws: what goes wrong is the status.
    OrtStatus* compute(OrtKernelContext& context) const noexcept {
        return guarded(api_, [&] { run(api_, context); });
    }

 private:
    virtual void run(const OrtApi& api, OrtKernelContext& context) const = 0;

    const OrtApi& api_;
};

// A node of the op with these attributes on Cpu or Gpu. A device has, both throwing Failure,
//   prepare<Attributes>(type)    once for each node, before its calls, none of them under way,
//   prune(call, attributes),
//   select_positions(call, attributes) for D2PrunePositions.
template <typename Attributes, typename Device>
class KernelOf final : public Kernel {
 public:
    KernelOf(const OrtApi& api, const OrtKernelInfo& info, DataType type)
        : Kernel(api), attributes_(read_attributes<Attributes>(api, info)), type_(type) {
        Device::template prepare<Attributes>(type);
    }

 private:
    void run(const OrtApi& api, OrtKernelContext& context) const override {
        if constexpr (std::is_same_v<Attributes, PositionsParameters>) {
            const PromptArguments arguments(api, context, type_);
            const std::int32_t count = surviving(arguments.shape, attributes_);
            void* const positions = output(api, context, 0, {count});
            Device::select_positions(
                {api, context, arguments, static_cast<std::int32_t*>(positions)}, attributes_);
        } else {
            const Arguments arguments(api, context, type_, Attributes::kInputs);
            const Shape& shape = arguments.shape;
            const std::int32_t tokens = attributes_.kept(shape.tokens);
            void* const kept = output(api, context, 0, {shape.batch, tokens, shape.channels});
            void* const indices = output(api, context, 1, {shape.batch, tokens});
            Device::prune({api, context, arguments, kept, static_cast<std::int32_t*>(indices)},
                          attributes_);
        }
    }

    const Attributes attributes_;
    const DataType type_;
};

}  // namespace d2export::onnxruntime
