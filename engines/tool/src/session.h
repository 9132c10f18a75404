// An engine with its inputs on the GPU, ready to run.
#pragma once

#include <NvInferRuntime.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "libraries.h"
#include "log.h"
#include "npy.h"

namespace d2export::tool {

class Session {
 public:
    // `engine` are the bytes of an engine, `profile` is the index of its optimization profile.
    // `allow_host_code`: an engine with a plugin inside brings code that runs on this machine.
    Session(const Libraries& libraries, Log& log, const std::string& engine, bool allow_host_code,
            std::int64_t profile);

    // Every input by name. Throws a Failure that lists what the engine takes, if one is missing, is
    // not known, or has a type or shape that the profile does not take.
    void set_inputs(const std::map<std::string, Array>& inputs);

    // Enqueues one run. Throws a Failure if TensorRT refuses.
    void enqueue();

    std::map<std::string, Array> outputs() const;

    // Reports each layer's time of the runs that follow; null: no longer.
    void report_to(nvinfer1::IProfiler* profiler) { context_->setProfiler(profiler); }

    const Stream& stream() const { return stream_; }
    std::int64_t activation_bytes() const;

 private:
    struct Tensor {
        std::string name;
        bool is_input;
        nvinfer1::DataType type;
        bool on_host;  // a shape tensor that TensorRT reads on the CPU
        std::vector<std::int64_t> shape{};
        std::unique_ptr<DeviceMemory> memory{};
        std::string host{};
    };

    void set_input(Tensor& tensor, Array array);
    void make_outputs();
    void bind(Tensor& tensor, std::size_t bytes);
    std::string takes() const;
    std::vector<std::int64_t> limit(const Tensor& tensor, nvinfer1::OptProfileSelector which) const;

    Log& log_;
    std::int32_t profile_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    Stream stream_;
    std::vector<Tensor> tensors_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace d2export::tool
