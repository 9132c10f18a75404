// An output of an engine: memory on the GPU, and its shape, known before the run or told by it.
#pragma once

#include <NvInferRuntime.h>

#include <memory>

#include "lane.h"
#include "versions.h"

namespace d2export::runtime::trt {

class Output final : private OutputMemory {
 public:
    // What the run writes goes to `buffer`, which grows as it must, and then by `room` bytes more.
    Output(Lane& lane, std::size_t tensor, const Engine& engine, DeviceBuffer& buffer,
           std::size_t room = 0);
    ~Output() override;
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    // Whether its size was known before the run.
    bool known() const { return allocator_ == nullptr; }
    // After the run. Throws an Error: it has another number of sides.
    const Sides& sides(std::size_t rank) const;
    const DeviceBuffer& buffer() const { return buffer_; }
    const Tensor& tensor() const { return engine_.tensors()[tensor_]; }
    std::size_t bytes() const;

 private:
    void* reserve(std::size_t bytes) noexcept override;
    void notify(const nvinfer1::Dims& dims) noexcept override;

    Lane& lane_;
    std::size_t tensor_;
    const Engine& engine_;
    DeviceBuffer& buffer_;
    std::size_t room_;
    Sides sides_;
    std::unique_ptr<nvinfer1::IOutputAllocator> allocator_;
};

}  // namespace d2export::runtime::trt
