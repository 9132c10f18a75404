#include "gpu_room.h"

#include <cstdio>
#include <string>

#include "gpu.h"
#include "stand_in.h"

namespace stand_in {
namespace {

constexpr std::uint64_t kAlignment = 256;

void* allocated(nvinfer1::IGpuAllocator& allocator, std::size_t bytes) {
#if NV_TENSORRT_MAJOR < 10
    return allocator.allocate(bytes, kAlignment, 0);
#else
    return allocator.allocateAsync(bytes, kAlignment, 0, nullptr);
#endif
}

bool given_back(nvinfer1::IGpuAllocator& allocator, void* memory) {
#if NV_TENSORRT_MAJOR < 10
    return allocator.deallocate(memory);
#else
    return allocator.deallocateAsync(memory, nullptr);
#endif
}

}  // namespace

GpuRoom::GpuRoom(nvinfer1::IGpuAllocator* allocator, std::size_t bytes) : allocator_(allocator) {
    if (allocator_ == nullptr) {
        const CUresult result = cuMemAlloc_v2(&address_, bytes);
        if (result != CUDA_SUCCESS) {
            throw "no memory of " + std::to_string(bytes) + " bytes: CUDA answers " +
                std::to_string(result);
        }
        return;
    }
    void* const memory = allocated(*allocator_, bytes);
    told("allocator asked for " + std::to_string(bytes) + (memory == nullptr ? ", none" : ""));
    address_ = reinterpret_cast<CUdeviceptr>(memory);
    if (memory == nullptr) throw "the allocator has no " + std::to_string(bytes) + " bytes";
    if (address_ % kAlignment != 0 || stand_in_has(address_, bytes) == 0) {
        throw std::string("what the allocator gave is not aligned to 256 or not of the GPU");
    }
}

GpuRoom::~GpuRoom() {
    if (allocator_ == nullptr) {
        const CUresult result = cuMemFree_v2(address_);
        if (result != CUDA_SUCCESS) std::fprintf(stderr, "TensorRT's memory stays: %d\n", result);
        return;
    }
    const bool taken = given_back(*allocator_, reinterpret_cast<void*>(address_));
    told(taken ? "allocator got it back" : "allocator did not take it back");
}

}  // namespace stand_in
