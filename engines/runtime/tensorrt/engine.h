// A deserialised engine of a bundle: its tensors, and the shapes that it takes.
#pragma once

#include <NvInferRuntime.h>
#include <d2export/backend.h>
#include <d2export/error.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "library.h"
#include "memory.h"

namespace d2export::runtime::trt {

// What every engine of a backend needs.
struct Machine {
    std::shared_ptr<const Gpu> gpu;
    std::shared_ptr<const Source> memory;
    std::shared_ptr<const Library> library;
    TensorRtOptions options;
};

struct Tensor {
    std::string name;
    bool is_input = false;
    bool on_host = false;  // TensorRT reads it itself, to know shapes
    DataType type{};       // of the engine: before TensorRT 10 int64 of a graph is int32
    std::vector<nvinfer1::Dims> low, high;  // of an input, by profile
};

class Engine {
 public:
    // `graph` is `vision` or `decoder`, `spec` what the manifest says of it.
    // Throws an Error: there is no engine, it does not fit this machine, or is not of that graph.
    Engine(std::shared_ptr<const Machine> machine, const Bundle& bundle, const std::string& graph,
           const GraphSpec& spec);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    const Machine& machine() const { return *machine_; }
    const Gpu& gpu() const { return *machine_->gpu; }
    const std::string& path() const { return path_; }
    const std::vector<Tensor>& tensors() const { return tensors_; }
    int profiles() const { return engine_->getNbOptimizationProfiles(); }
    nvinfer1::ICudaEngine& get() const { return *engine_; }

    // Throws an Error: what the engine answers there is of another type.
    void expect(const Tensor& tensor, DataType type) const;

    // An Error that says what TensorRT did not do with this engine, and why.
    Error failure(const std::string& what) const;

 private:
    void describe();
    void check_tensors(const GraphSpec& spec) const;

    std::shared_ptr<const Machine> machine_;
    std::string path_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::vector<Tensor> tensors_;
};

}  // namespace d2export::runtime::trt
