// Memory that a call works in: ONNX Runtime's, where the inputs lie.
#pragma once

#include <memory>

#include "kernel.h"

namespace d2export::onnxruntime {

class Scratch {
 public:
    // Takes `bytes` from the arena, which keeps its pages from one call to the next.
    template <typename AnyCall>
    static Scratch on_cpu(const AnyCall& call, std::size_t bytes) {
        return allocate_on_cpu(call.api, call.context, call.arguments.memory, bytes);
    }

    // The same on a GPU, tied to the call's stream: released while a kernel still runs, it goes to
    // no other stream before that kernel is through.
    template <typename AnyCall>
    static Scratch on_gpu(const AnyCall& call, std::size_t bytes) {
        return allocate_on_gpu(call.api, call.context, call.arguments.memory, bytes);
    }

    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { failed(api_, api_.AllocatorFree(allocator_.get(), data_)); }

    void* data() const noexcept { return data_; }

 private:
    using Allocator = std::unique_ptr<OrtAllocator, decltype(OrtApi::ReleaseAllocator)>;
    Scratch(const OrtApi& api, Allocator allocator, void* data) noexcept
        : api_(api), allocator_(std::move(allocator)), data_(data) {}
    static Scratch allocate_on_cpu(const OrtApi& api, const OrtKernelContext& context,
                                   const OrtMemoryInfo* memory, std::size_t bytes);
    static Scratch allocate_on_gpu(const OrtApi& api, const OrtKernelContext& context,
                                   const OrtMemoryInfo* memory, std::size_t bytes);
    static Allocator allocator(const OrtApi& api, const OrtKernelContext& context,
                               const OrtMemoryInfo* memory);

    const OrtApi& api_;
    const Allocator allocator_;
    void* const data_;
};

}  // namespace d2export::onnxruntime
