// TensorRT's shared library, opened while the program runs, with d2export's plugin in its registry.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>

#include "memory.h"

namespace d2export::runtime::trt {

class Library {
 public:
    // While the GPU is current: without one, TensorRT crashes. `plugin` may be empty.
    // Throws an Error: there is no such library, it is of another version, or refuses the plugin.
    Library(const std::string& path, const std::string& plugin,
            std::shared_ptr<const Source> memory);
    ~Library();
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;

    const std::string& version() const { return version_; }  // "10.3.0"
    nvinfer1::IRuntime& runtime() const { return *runtime_; }

 private:
    void load_plugin(void* library, const std::string& plugin) const;

    std::shared_ptr<const Source> memory_;
    std::string version_;
    std::unique_ptr<nvinfer1::IGpuAllocator> allocator_;  // outlives the runtime
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
};

}  // namespace d2export::runtime::trt
