// An execution context that refuses what a real one would, or would answer with garbage. What it is
// told is in context.cpp, how it runs in enqueue.cpp.
#pragma once

#include <cuda.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "acting.h"
#include "gpu_room.h"
#include "kernel.h"

namespace stand_in {

// What an engine and its contexts share.
struct Opened {
    std::shared_ptr<const EngineText> text;
    std::shared_ptr<const Computation> computation;
    nvinfer1::ILogger& logger;
    nvinfer1::IGpuAllocator* allocator;
    std::unique_ptr<GpuRoom> weights;
    std::atomic<int> contexts{0};
    std::mutex mutex;
    std::vector<int> users;  // contexts, by profile

    // Whether a context may use that profile: before TensorRT 10 one at a time.
    bool take(std::int32_t profile);
    void give_back(std::int32_t profile);
};

constexpr std::size_t kActivations[] = {65536, 4096};  // bytes, of the first profile and of others

std::size_t most_activations(int profiles);

// Ends the program when two threads are in one context.
class Alone {
 public:
    explicit Alone(std::atomic_flag& busy);
    ~Alone() { busy_.clear(); }
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;

 private:
    std::atomic_flag& busy_;
};

struct ContextFunctions : nvinfer1::apiv::DefaultVExecutionContext {
    // Throws std::string: there is no memory. `activations`: bytes to take now; 0 for what the
    // program sets later.
    ContextFunctions(Opened& opened, const nvinfer1::ICudaEngine& engine, std::size_t activations);
    ~ContextFunctions() override;
    ContextFunctions(const ContextFunctions&) = delete;
    ContextFunctions& operator=(const ContextFunctions&) = delete;

    const nvinfer1::ICudaEngine& getEngine() const noexcept override { return engine_; }
    std::int32_t getOptimizationProfile() const noexcept override { return profile_; }
    bool setOptimizationProfileAsync(std::int32_t index, cudaStream_t stream) noexcept override;
    bool setInputShape(const char* name, const nvinfer1::Dims& dims) noexcept override;
    nvinfer1::Dims getTensorShape(const char* name) const noexcept override;
    std::int32_t inferShapes(std::int32_t room, const char** names) noexcept override;

    bool setTensorAddress(const char* name, void* address) noexcept override;
    bool setInputTensorAddress(const char* name, const void* address) noexcept override;
    const void* getTensorAddress(const char* name) const noexcept override;
    void* getOutputTensorAddress(const char* name) const noexcept override;
    bool setOutputAllocator(const char* name,
                            nvinfer1::IOutputAllocator* allocator) noexcept override;
    nvinfer1::IOutputAllocator* getOutputAllocator(const char* name) noexcept override;
    void setDeviceMemory(void* memory) noexcept override;
#if NV_TENSORRT_MAJOR < 10
    bool setOptimizationProfile(std::int32_t index) noexcept override;
#else
    bool setOutputTensorAddress(const char* name, void* address) noexcept override;
    void setDeviceMemoryV2(void* memory, std::int64_t bytes) noexcept override;
#endif

    bool enqueueV3(cudaStream_t stream) noexcept override;

 private:
    // Tells the logger what was thrown.
    bool attempt(const std::function<void()>& function) const;
    const Tensor& tensor(const char* name, bool input, bool output) const;
    void choose(std::int32_t index);
    void changed();
    Sizes sizes() const;
    Kernel kernel(CUstream stream) const;
    Place input_place(const Tensor& tensor, const Sizes& known) const;
    CUdeviceptr output_place(const Tensor& tensor, const Shape& shape, CUstream stream) const;
    void check_apart(const Kernel& kernel) const;
    void put_on(CUstream stream);
    void run_at_once(Kernel& kernel, CUstream stream);

    Opened& opened_;
    const nvinfer1::ICudaEngine& engine_;
    mutable std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
    std::unique_ptr<GpuRoom> own_activations_;
    CUdeviceptr activations_ = 0;
    std::size_t activation_bytes_ = 0;

    std::int32_t profile_ = -1;
    CUstream profile_stream_ = nullptr;
    std::weak_ptr<const int> profile_waits_;
    std::map<std::string, Shape> shapes_;  // of inputs
    std::map<std::string, CUdeviceptr> addresses_;
    std::map<std::string, nvinfer1::IOutputAllocator*> allocators_;

    std::shared_ptr<Turns> turns_ = std::make_shared<Turns>();
    std::uint64_t enqueued_state_ = 0;  // with which it was enqueued last, outside of a graph
    CUstream last_stream_ = nullptr;
    std::weak_ptr<const int> last_waits_;
};
using Context = Acting<nvinfer1::IExecutionContext, ContextFunctions>;

}  // namespace stand_in
