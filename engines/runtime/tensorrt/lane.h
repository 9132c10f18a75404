// What one run of an engine at a time needs: execution contexts, memory, a stream.
#pragma once

#include <NvInferRuntime.h>
#include <d2export/backend.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "engine.h"
#include "given.h"
#include "pool.h"
#include "recorded_steps.h"

namespace d2export::runtime::trt {

// May be used by one thread at a time.
class Lane {
 public:
    // While the GPU is current. Throws an Error: TensorRT makes no context, or there is no memory.
    explicit Lane(const Engine& engine);
    ~Lane();
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    const Stream& stream() const { return stream_; }
    RecordedSteps& recorded() { return recorded_; }

    // The runs that follow are of this profile; to be called before inputs are set.
    void use(int profile);

    // Tells TensorRT an input, an index of Engine::tensors(). Numbers of the host are copied, and
    // have to stay until the stream was waited for; those on the GPU are read where they lie.
    void set(std::size_t tensor, const Given& given);
    // The same for numbers that lie in several places, row after row.
    void set(std::size_t tensor, const Span<Matrix>& parts, std::int64_t columns);
    // New numbers of the same shape for an input of a recorded step.
    void refill(std::size_t tensor, const Given& given);

    // The sides of an output with the inputs as set; one is -1 if only the run knows it.
    Sides shape(std::size_t tensor) const;
    // Where an output goes.
    void to(std::size_t tensor, void* memory);
    // Where an output goes that the run tells the size of, until it is forgotten.
    void to(std::size_t tensor, nvinfer1::IOutputAllocator& allocator);
    void forget(std::size_t tensor) noexcept;

    void enqueue() { enqueue(stream_.get()); }
    // Records what enqueue() would do now; to be called after it, with everything as it was.
    RecordedStep record();

 private:
    nvinfer1::IExecutionContext& context() const;
    void enqueue(CUstream stream);
    void* room(std::size_t tensor, std::size_t bytes);
    void tell(std::size_t tensor, const void* address, const Sides& sides);
    const void* in_type(std::size_t tensor, const Given& given);

    struct Input {
        explicit Input(std::shared_ptr<const Source> source) : device(std::move(source)) {}
        DeviceBuffer device;
        std::vector<std::uint8_t> host;  // of another type, or that TensorRT reads itself
    };

    const Engine& engine_;
    Stream stream_;
    Stream recording_;  // what is recorded is not on the caller's stream
    DeviceBuffer activations_;
    std::vector<std::unique_ptr<nvinfer1::IExecutionContext>> contexts_;  // by profile
    int profile_ = 0;
    std::vector<Input> inputs_;  // by tensor
    RecordedSteps recorded_;
};

// As many lanes as runs go on at once; TensorRT before 10 allows one.
std::shared_ptr<Pool<Lane>> lanes_of(const Engine& engine);

}  // namespace d2export::runtime::trt
