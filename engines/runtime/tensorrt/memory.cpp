#include "memory.h"

#include <d2export/error.h>

#include <algorithm>
#include <utility>

namespace d2export::runtime::trt {

void* Source::allocate(std::size_t bytes) const {
    if (callers_ == nullptr) {
        CUdeviceptr memory = 0;
        gpu_->check(gpu_->driver().mem_alloc(&memory, bytes),
                    "get " + std::to_string(bytes) + " bytes of the GPU's memory");
        return reinterpret_cast<void*>(memory);
    }
    void* const memory = callers_->allocate(bytes);
    if (memory == nullptr) {
        throw misfit("DeviceMemory::allocate() has no " + std::to_string(bytes) +
                         " bytes of the GPU's memory",
                     "Give it more, or build the engines for smaller pictures.");
    }
    return memory;
}

void Source::release(void* memory) const noexcept {
    const Current current(*gpu_);
    if (callers_ == nullptr) {
        gpu_->driver().mem_free(reinterpret_cast<CUdeviceptr>(memory));
    } else {
        callers_->release(memory);
    }
}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
    std::swap(source_, other.source_);
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

bool DeviceBuffer::reserve(std::size_t bytes, std::size_t roomy) {
    if (memory_ != nullptr && bytes <= bytes_) {
        return false;
    }
    free();
    const std::size_t wanted = std::max({bytes, roomy, std::size_t{1}});
    memory_ = source_->allocate(wanted);
    bytes_ = wanted;
    return true;
}

void DeviceBuffer::free() noexcept {
    if (memory_ != nullptr) {
        source_->release(memory_);
        memory_ = nullptr;
        bytes_ = 0;
    }
}

void HostBuffer::reserve(std::size_t bytes) {
    if (memory_ != nullptr && bytes <= bytes_) {
        return;
    }
    free();
    const std::size_t wanted = std::max(bytes, std::size_t{1});
    gpu_->check(gpu_->driver().mem_host_alloc(&memory_, wanted, CU_MEMHOSTALLOC_PORTABLE),
                "get " + std::to_string(wanted) + " bytes of page-locked memory");
    bytes_ = wanted;
}

void HostBuffer::free() noexcept {
    if (memory_ != nullptr) {
        const Current current(*gpu_);
        gpu_->driver().mem_free_host(memory_);
        memory_ = nullptr;
        bytes_ = 0;
    }
}

}  // namespace d2export::runtime::trt
