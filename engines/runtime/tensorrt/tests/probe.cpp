// Asks the stand-ins one thing, for tests/runtime_cpp/test_stand_ins.py.
//
//   probe CASE            one of cases.cpp: calls of CUDA, with a word for each answer
//   probe run FOLDER      runs FOLDER/engine, steps as FOLDER/steps says
//
// A step is a line: "profile 1"; "in NAME 1x4", whose numbers are in the file NAME; "out NAME
// BYTES" or "ask NAME", where they go with an address or an allocator; "run", after which outputs
// are in files; "graph", the same from a graph that is recorded and launched; "another", after
// which all that follows is for a new context, beside the old one.

#include <NvInferRuntime.h>
#include <cuda.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "acting.h"
#include "cases.h"

extern "C" void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept;

[[noreturn]] void missing(const char* function) noexcept {
    std::fprintf(stderr, "nobody calls %s\n", function);
    std::abort();
}

namespace {

CUstream stream_of(CUcontext* context) {
    CUstream stream = nullptr;
    cuInit(0);
    cuDevicePrimaryCtxRetain(context, 0);
    cuCtxPushCurrent_v2(*context);
    cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
    return stream;
}

struct Logger : nvinfer1::ILogger {
    void log(Severity, const char* message) noexcept override {
        std::cout << "error: " << message << std::endl;
    }
};

struct Output : nvinfer1::IOutputAllocator {
    void* reallocateOutput(const char*, void*, std::uint64_t size,
                           std::uint64_t) noexcept override {
        bytes = size;
        address = memory(size > 0 ? size : 1);
        return reinterpret_cast<void*>(address);
    }
#if NV_TENSORRT_MAJOR >= 10
    void* reallocateOutputAsync(const char* name, void* before, std::uint64_t size,
                                std::uint64_t alignment, cudaStream_t) override {
        return reallocateOutput(name, before, size, alignment);
    }
#endif
    void notifyShape(const char* name, const nvinfer1::Dims& dims) noexcept override {
        std::cout << name << " is " << text(dims) << std::endl;
    }
    std::size_t bytes = 0;
    CUdeviceptr address = 0;
};

class Run {
 public:
    Run(std::string folder, CUstream stream) : folder_(std::move(folder)), stream_(stream) {
        runtime_.reset(static_cast<nvinfer1::IRuntime*>(
            createInferRuntime_INTERNAL(&logger_, NV_TENSORRT_VERSION)));
        const std::string engine = file("engine");
        engine_.reset(runtime_->deserializeCudaEngine(engine.data(), engine.size()));
        if (engine_ != nullptr) context_.reset(engine_->createExecutionContext());
    }

    void steps() {
        if (context_ == nullptr) return;
        std::ifstream lines(folder_ + "/steps");
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            step(words);
        }
    }

 private:
    std::string file(const std::string& name) const {
        std::ifstream stream(folder_ + "/" + name, std::ios::binary);
        return {std::istreambuf_iterator<char>(stream), {}};
    }

    void step(std::istringstream& words) {
        std::string verb, name, shape;
        words >> verb;
        if (verb == "run") return run([&] { return context_->enqueueV3(stream_); });
        if (verb == "graph") return run([&] { return graph(); });
        if (verb == "another") {
            others_.push_back(std::move(context_));
            context_.reset(engine_->createExecutionContext());
            return;
        }
        if (verb == "profile") {
            int index = 0;
            words >> index;
            context_->setOptimizationProfileAsync(index, stream_);
            return;
        }
        words >> name;
        if (verb == "in") {
            words >> shape;
            context_->setInputShape(name.c_str(), dims_from(shape));
            const std::string& bytes = inputs_[name] = file(name);
            const CUdeviceptr address = memory(bytes.empty() ? 1 : bytes.size());
            cuMemcpyHtoDAsync_v2(address, bytes.data(), bytes.size(), stream_);
            context_->setTensorAddress(name.c_str(), reinterpret_cast<void*>(address));
        } else if (verb == "out") {
            Output& output = outputs_[name];
            words >> output.bytes;
            output.address = memory(output.bytes);
            context_->setTensorAddress(name.c_str(), reinterpret_cast<void*>(output.address));
            std::cout << name << " will be " << text(context_->getTensorShape(name.c_str()))
                      << std::endl;
        } else if (verb == "ask") {
            context_->setOutputAllocator(name.c_str(), &outputs_[name]);
            std::cout << name << " will be " << text(context_->getTensorShape(name.c_str()))
                      << std::endl;
        }
    }

    void run(const std::function<bool()>& how) {
        if (!how()) return;
        std::map<std::string, std::string> found;
        for (const auto& [name, output] : outputs_) {
            std::string& bytes = found[name];
            bytes.resize(output.bytes);
            cuMemcpyDtoHAsync_v2(bytes.data(), output.address, bytes.size(), stream_);
        }
        say("wait", cuStreamSynchronize(stream_));
        for (const auto& [name, bytes] : found) {
            std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
        }
    }

    bool graph() {
        CUgraph graph = nullptr;
        CUgraphExec ready = nullptr;
        cuStreamBeginCapture_v2(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        const bool done = context_->enqueueV3(stream_);
        say("end", cuStreamEndCapture(stream_, &graph));
        if (graph == nullptr) return false;
        cuGraphInstantiateWithFlags(&ready, graph, 0);
        say("launch", cuGraphLaunch(ready, stream_));
        cuGraphExecDestroy(ready);
        cuGraphDestroy(graph);
        return done;
    }

    const std::string folder_;
    CUstream stream_;
    Logger logger_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::vector<std::unique_ptr<nvinfer1::IExecutionContext>> others_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::map<std::string, std::string> inputs_;
    std::map<std::string, Output> outputs_;
};

}  // namespace

int main(int count, char** words) {
    CUcontext context = nullptr;
    CUstream stream = stream_of(&context);
    if (count == 3) {
        Run(words[2], stream).steps();
    } else {
        cases().at(words[1])(stream);
    }
    return 0;
}
