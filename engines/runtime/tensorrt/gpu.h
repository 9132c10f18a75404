// A GPU: its CUDA context, and what is put on its streams.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "driver.h"

namespace d2export::runtime::trt {

class Gpu {
 public:
    // The GPU of that number; or, with a stream of the caller's, the one it is on.
    // Throws an Error: there is none, or CUDA refuses.
    Gpu(int device, CUstream stream);
    ~Gpu();
    Gpu(const Gpu&) = delete;
    Gpu& operator=(const Gpu&) = delete;

    const Driver& driver() const { return driver_; }
    const std::string& name() const { return name_; }
    std::array<std::int64_t, 2> compute_capability() const { return capability_; }
    std::int64_t memory() const { return memory_; }  // bytes

    // Throws an Error that says what CUDA did not do.
    void check(CUresult result, const std::string& what) const;

 private:
    friend class Current;
    void describe();

    const Driver& driver_;
    CUcontext context_ = nullptr;
    bool retained_ = false;
    CUdevice device_ = 0;
    std::string name_;
    std::array<std::int64_t, 2> capability_{};
    std::int64_t memory_ = 0;
};

// The GPU's context is this thread's, as long as it lives. If that fails, the next call says so.
class Current {
 public:
    explicit Current(const Gpu& gpu) noexcept;
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

 private:
    const Gpu& gpu_;
};

// A stream: its own, or the caller's. To be made while its GPU is current.
class Stream {
 public:
    explicit Stream(const Gpu& gpu, CUstream callers = nullptr);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    CUstream get() const { return stream_; }
    // Between any two places; what is copied has to stay until wait() returned.
    void copy(void* to, const void* from, std::size_t bytes) const;
    void wait() const;

 private:
    const Gpu& gpu_;
    bool owned_;
    CUstream stream_;
};

// Nothing that was put on the stream goes on when this is destroyed, whatever was thrown.
class Settled {
 public:
    Settled(const Gpu& gpu, const Stream& stream) : gpu_(gpu), stream_(stream) {}
    ~Settled() { gpu_.driver().stream_synchronize(stream_.get()); }
    Settled(const Settled&) = delete;
    Settled& operator=(const Settled&) = delete;

 private:
    const Gpu& gpu_;
    const Stream& stream_;
};

}  // namespace d2export::runtime::trt
