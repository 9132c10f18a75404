#include "scratch.h"

namespace d2export::onnxruntime {

Scratch Scratch::allocate_on_cpu(const OrtApi& api, const OrtKernelContext& context,
                                 const OrtMemoryInfo* memory, std::size_t bytes) {
    Allocator arena = allocator(api, context, memory);
    void* data = nullptr;
    check(api, api.AllocatorAlloc(arena.get(), bytes, &data));
    return {api, std::move(arena), data};
}

Scratch Scratch::allocate_on_gpu(const OrtApi& api, const OrtKernelContext& context,
                                 const OrtMemoryInfo* memory, std::size_t bytes) {
    Allocator arena = allocator(api, context, memory);
    void* data = nullptr;
    check(api, api.KernelContext_GetScratchBuffer(&context, memory, bytes, &data));
    return {api, std::move(arena), data};
}

Scratch::Allocator Scratch::allocator(const OrtApi& api, const OrtKernelContext& context,
                                      const OrtMemoryInfo* memory) {
    OrtAllocator* found = nullptr;
    check(api, api.KernelContext_GetAllocator(&context, memory, &found));
    return {found, api.ReleaseAllocator};
}

}  // namespace d2export::onnxruntime
