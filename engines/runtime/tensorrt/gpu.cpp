#include "gpu.h"

#include <d2export/error.h>

namespace d2export::runtime::trt {
namespace {

constexpr int kLongestName = 256;

}  // namespace

Gpu::Gpu(int device, CUstream stream) : driver_(Driver::open()) {
    const CUresult started = driver_.init(0);
    int count = 0;
    if (started == CUDA_SUCCESS) {
        check(driver_.device_get_count(&count), "count its GPUs");
    }
    if (count == 0) {
        const char* why = nullptr;
        driver_.get_error_name(started == CUDA_SUCCESS ? CUDA_ERROR_NO_DEVICE : started, &why);
        throw misfit("there is no NVIDIA GPU that CUDA can use" +
                         (why == nullptr ? std::string() : std::string(": ") + why),
                     "Run this where there is one; nvidia-smi and d2export doctor show what there "
                     "is.");
    }
    if (stream != nullptr) {
        check(driver_.stream_get_context(stream, &context_), "use the stream that was passed");
    } else {
        if (device < 0 || device >= count) {
            throw misfit("the GPU's number is " + std::to_string(device) + ", and there are " +
                             std::to_string(count) + ", counted from 0",
                         "Pass one of them.");
        }
        check(driver_.device_get(&device_, device), "use the GPU");
        check(driver_.primary_context_retain(&context_, device_), "use the GPU");
        retained_ = true;
    }
    try {
        describe();
    } catch (...) {
        if (retained_) {
            driver_.primary_context_release(device_);
        }
        throw;
    }
}

Gpu::~Gpu() {
    if (retained_) {
        driver_.primary_context_release(device_);
    }
}

void Gpu::describe() {
    const Current current(*this);
    check(driver_.context_get_device(&device_), "use the GPU");
    char name[kLongestName] = {};
    check(driver_.device_get_name(name, kLongestName, device_), "tell the GPU's name");
    name_ = name;
    int major = 0, minor = 0;
    check(
        driver_.device_get_attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device_),
        "tell the GPU's compute capability");
    check(
        driver_.device_get_attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device_),
        "tell the GPU's compute capability");
    capability_ = {major, minor};
    std::size_t bytes = 0;
    check(driver_.device_total_mem(&bytes, device_), "tell the GPU's memory");
    memory_ = static_cast<std::int64_t>(bytes);
}

void Gpu::check(CUresult result, const std::string& what) const {
    if (result == CUDA_SUCCESS) {
        return;
    }
    const char* name = nullptr;
    driver_.get_error_name(result, &name);
    const std::string problem =
        "CUDA cannot " + what + ": " + (name == nullptr ? std::to_string(result) : name);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        throw misfit(problem,
                     "Free memory of the GPU, ask fewer questions at once, or build the "
                     "engines for smaller pictures.");
    }
    throw misfit(problem,
                 "Is the GPU in order? nvidia-smi shows; after an illegal access the "
                 "process has to start again.");
}

Current::Current(const Gpu& gpu) noexcept : gpu_(gpu) { gpu.driver_.context_push(gpu.context_); }

Current::~Current() {
    CUcontext popped = nullptr;
    gpu_.driver_.context_pop(&popped);
}

Stream::Stream(const Gpu& gpu, CUstream callers)
    : gpu_(gpu), owned_(callers == nullptr), stream_(callers) {
    if (owned_) {
        gpu_.check(gpu_.driver().stream_create(&stream_, CU_STREAM_NON_BLOCKING), "make a stream");
    }
}

Stream::~Stream() {
    if (owned_) {
        const Current current(gpu_);
        gpu_.driver().stream_destroy(stream_);
    }
}

void Stream::copy(void* to, const void* from, std::size_t bytes) const {
    if (bytes > 0) {
        gpu_.check(gpu_.driver().memcpy_async(reinterpret_cast<CUdeviceptr>(to),
                                              reinterpret_cast<CUdeviceptr>(from), bytes, stream_),
                   "copy " + std::to_string(bytes) + " bytes");
    }
}

void Stream::wait() const { gpu_.check(gpu_.driver().stream_synchronize(stream_), "do its work"); }

}  // namespace d2export::runtime::trt
