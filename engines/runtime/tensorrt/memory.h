// Memory for what goes to the GPU and comes from it.
#pragma once

#include <d2export/backend.h>

#include <cstddef>
#include <memory>

#include "gpu.h"

namespace d2export::runtime::trt {

// Where memory on the GPU comes from: CUDA, or the caller. Throws an Error if there is none.
class Source {
 public:
    Source(std::shared_ptr<const Gpu> gpu, std::shared_ptr<DeviceMemory> callers)
        : gpu_(std::move(gpu)), callers_(std::move(callers)) {}

    void* allocate(std::size_t bytes) const;  // while the GPU is current
    void release(void* memory) const noexcept;

    const Gpu& gpu() const { return *gpu_; }
    const std::shared_ptr<DeviceMemory>& callers() const { return callers_; }

 private:
    std::shared_ptr<const Gpu> gpu_;
    std::shared_ptr<DeviceMemory> callers_;
};

// Memory on the GPU that grows; what was in it is lost then. No work may use it when it grows or
// ends.
class DeviceBuffer {
 public:
    explicit DeviceBuffer(std::shared_ptr<const Source> source) : source_(std::move(source)) {}
    ~DeviceBuffer() { free(); }
    DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

    // At least so many bytes, and at least one: TensorRT wants an address of nothing, too.
    // `roomy` are taken if it has to grow. Whether it grew.
    bool reserve(std::size_t bytes, std::size_t roomy = 0);
    void* get() const { return memory_; }
    std::size_t size() const { return bytes_; }

 private:
    void free() noexcept;

    std::shared_ptr<const Source> source_;
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
};

// Page-locked memory of the host that grows, which copies from the GPU need not wait for.
class HostBuffer {
 public:
    explicit HostBuffer(std::shared_ptr<const Gpu> gpu) : gpu_(std::move(gpu)) {}
    ~HostBuffer() { free(); }
    HostBuffer(const HostBuffer&) = delete;
    HostBuffer& operator=(const HostBuffer&) = delete;

    void reserve(std::size_t bytes);
    void* get() const { return memory_; }

 private:
    void free() noexcept;

    std::shared_ptr<const Gpu> gpu_;
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace d2export::runtime::trt
