#include "scratch.h"

namespace d2export::onnxruntime {

Scratch Scratch::on_cpu(const Call& call, std::size_t bytes) {
    Allocator arena = allocator(call);
    void* data = nullptr;
    check(call.api, call.api.AllocatorAlloc(arena.get(), bytes, &data));
    return {call.api, std::move(arena), data};
}

Scratch Scratch::on_gpu(const Call& call, std::size_t bytes) {
    Allocator arena = allocator(call);
    void* data = nullptr;
    check(call.api, call.api.KernelContext_GetScratchBuffer(&call.context, call.arguments.memory,
                                                            bytes, &data));
    return {call.api, std::move(arena), data};
}

Scratch::Allocator Scratch::allocator(const Call& call) {
    OrtAllocator* found = nullptr;
    check(call.api,
          call.api.KernelContext_GetAllocator(&call.context, call.arguments.memory, &found));
    return {found, call.api.ReleaseAllocator};
}

}  // namespace d2export::onnxruntime
