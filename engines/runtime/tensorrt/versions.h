// All that differs between TensorRT 8.6, 10 and 11. No other file knows which one it is compiled
// for.
#pragma once

#include <NvInferRuntime.h>
#include <d2export/backend.h>

#include <cstdint>
#include <memory>
#include <string>

namespace d2export::runtime::trt {

using Size = std::decay_t<decltype(nvinfer1::Dims::d[0])>;  // int32 before TensorRT 10, then int64

// Whether contexts of one engine may share a profile; before TensorRT 10 each needs its own.
extern const bool kProfilesAreShared;

// "10.3.0", of the headers and of what getInferLibVersion() answers.
std::string headers_version();
std::string version_text(std::int32_t number);
// Whether a library of that version has all that the headers promise.
bool fits_headers(std::int32_t number);
std::string library_name();  // libnvinfer.so.10

// A context whose memory is given to it.
std::unique_ptr<nvinfer1::IExecutionContext> new_context(nvinfer1::ICudaEngine& engine);
std::size_t activation_bytes(const nvinfer1::ICudaEngine& engine);
void set_activations(nvinfer1::IExecutionContext& context, void* memory, std::size_t bytes);

// Throws an Error for a type that no bundle has.
DataType type_of(nvinfer1::DataType type, const std::string& name);

// What TensorRT asks for memory where the caller gives it.
std::unique_ptr<nvinfer1::IGpuAllocator> allocator_of(std::shared_ptr<DeviceMemory> memory);

// Tells where an output goes whose size is not known before.
class OutputMemory {
 public:
    virtual ~OutputMemory() = default;
    // Null if there is none.
    virtual void* reserve(std::size_t bytes) noexcept = 0;
    virtual void notify(const nvinfer1::Dims& dims) noexcept = 0;
};
std::unique_ptr<nvinfer1::IOutputAllocator> output_allocator_of(OutputMemory& memory);

}  // namespace d2export::runtime::trt
