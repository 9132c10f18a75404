#include "versions.h"

#include <d2export/error.h>

#include <array>

namespace d2export::runtime::trt {
namespace {

constexpr std::uint64_t kAlignment = 256;  // that DeviceMemory promises

// The number is major * 1000 + minor * 100 + patch up to 9, then major * 10000 + minor * 100 +
// patch.
std::array<std::int32_t, 3> parts(std::int32_t number) {
    constexpr std::int32_t kWide = 10000, kNarrow = 1000, kMinor = 100;
    const std::int32_t major = number >= kWide ? number / kWide : number / kNarrow;
    const std::int32_t rest = number >= kWide ? number % kWide : number % kNarrow;
    return {major, rest / kMinor, rest % kMinor};
}

std::string text(const std::array<std::int32_t, 3>& version) {
    return std::to_string(version[0]) + "." + std::to_string(version[1]) + "." +
           std::to_string(version[2]);
}

constexpr std::array<std::int32_t, 3> kHeaders{NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR,
                                               NV_TENSORRT_PATCH};

class Allocator final : public nvinfer1::IGpuAllocator {
 public:
    explicit Allocator(std::shared_ptr<DeviceMemory> memory) : memory_(std::move(memory)) {}

    void* allocate(std::uint64_t size, std::uint64_t alignment,
                   nvinfer1::AllocatorFlags) noexcept override {
        return size == 0 || alignment > kAlignment ? nullptr : memory_->allocate(size);
    }
    bool deallocate(void* memory) noexcept override {
        if (memory != nullptr) {
            memory_->release(memory);
        }
        return true;
    }
#if NV_TENSORRT_MAJOR < 10
    void free(void* memory) noexcept override { deallocate(memory); }
#endif

 private:
    std::shared_ptr<DeviceMemory> memory_;
};

class OutputAllocator final : public nvinfer1::IOutputAllocator {
 public:
    explicit OutputAllocator(OutputMemory& memory) : memory_(memory) {}

    void* reallocateOutput(const char*, void*, std::uint64_t size,
                           std::uint64_t alignment) noexcept override {
        return alignment > kAlignment ? nullptr : memory_.reserve(size);
    }
    void notifyShape(const char*, const nvinfer1::Dims& dims) noexcept override {
        memory_.notify(dims);
    }

 private:
    OutputMemory& memory_;
};

}  // namespace

const bool kProfilesAreShared = NV_TENSORRT_MAJOR >= 10;

std::string headers_version() { return text(kHeaders); }
std::string version_text(std::int32_t number) { return text(parts(number)); }

// Within a major version newer libraries have all that older headers know, not the other way.
bool fits_headers(std::int32_t number) {
    const std::array<std::int32_t, 3> found = parts(number);
    return found[0] == kHeaders[0] && found[1] >= kHeaders[1];
}

std::string library_name() { return "libnvinfer.so." + std::to_string(kHeaders[0]); }

std::unique_ptr<nvinfer1::IExecutionContext> new_context(nvinfer1::ICudaEngine& engine) {
#if NV_TENSORRT_MAJOR < 10
    return std::unique_ptr<nvinfer1::IExecutionContext>(
        engine.createExecutionContextWithoutDeviceMemory());
#else
    return std::unique_ptr<nvinfer1::IExecutionContext>(
        engine.createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
#endif
}

std::size_t activation_bytes(const nvinfer1::ICudaEngine& engine) {
#if NV_TENSORRT_MAJOR < 10
    return engine.getDeviceMemorySize();
#else
    return static_cast<std::size_t>(engine.getDeviceMemorySizeV2());
#endif
}

void set_activations(nvinfer1::IExecutionContext& context, void* memory, std::size_t bytes) {
#if NV_TENSORRT_MAJOR < 10
    static_cast<void>(bytes);
    context.setDeviceMemory(memory);
#else
    context.setDeviceMemoryV2(memory, static_cast<std::int64_t>(bytes));
#endif
}

DataType type_of(nvinfer1::DataType type, const std::string& name) {
    switch (type) {
        case nvinfer1::DataType::kFLOAT:
            return DataType::kFloat32;
        case nvinfer1::DataType::kHALF:
            return DataType::kFloat16;
        case nvinfer1::DataType::kINT32:
            return DataType::kInt32;
        case nvinfer1::DataType::kUINT8:
            return DataType::kUint8;
        case nvinfer1::DataType::kBOOL:
            return DataType::kBool;
#if NV_TENSORRT_MAJOR >= 10
        case nvinfer1::DataType::kINT64:
            return DataType::kInt64;
        case nvinfer1::DataType::kBF16:
            return DataType::kBfloat16;
#endif
        default:
            throw bad_input("the engine has " + name + " of DataType " +
                                std::to_string(static_cast<std::int32_t>(type)) +
                                ", which no bundle has",
                            "Build the engines again.");
    }
}

std::unique_ptr<nvinfer1::IGpuAllocator> allocator_of(std::shared_ptr<DeviceMemory> memory) {
    return std::make_unique<Allocator>(std::move(memory));
}

std::unique_ptr<nvinfer1::IOutputAllocator> output_allocator_of(OutputMemory& memory) {
    return std::make_unique<OutputAllocator>(memory);
}

}  // namespace d2export::runtime::trt
