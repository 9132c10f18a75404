// What the tool needs of CUDA: memory, a stream, events and graphs, each freed by its owner.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

namespace d2export::tool {

// Throws a Failure that says what could not be done and why.
void check(cudaError_t status, const char* what);

// Throws a Failure if CUDA sees no GPU here. TensorRT's factories crash without one.
void need_gpu();

std::string gpu_name();
std::size_t free_memory();  // bytes

class DeviceMemory {
 public:
    explicit DeviceMemory(std::size_t bytes);
    ~DeviceMemory() { cudaFree(address_); }
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;

    void* address() const { return address_; }

 private:
    void* address_ = nullptr;
};

class Stream {
 public:
    Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream"); }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const { return stream_; }
    void wait() const { check(cudaStreamSynchronize(stream_), "the work on the GPU"); }

 private:
    cudaStream_t stream_ = nullptr;
};

class Event {
 public:
    Event() { check(cudaEventCreate(&event_), "an event"); }
    ~Event() { cudaEventDestroy(event_); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void record(const Stream& stream) { check(cudaEventRecord(event_, stream.get()), "an event"); }
    // Milliseconds since `start`; both have happened.
    double since(const Event& start) const;

 private:
    cudaEvent_t event_ = nullptr;
};

// Work of a stream, recorded once and replayed.
class Graph {
 public:
    // `work` enqueues on the stream. Throws a Failure if something in it cannot be recorded.
    template <typename Work>
    Graph(const Stream& stream, Work work) {
        begin(stream);
        try {
            work();
        } catch (...) {
            cudaStreamEndCapture(stream.get(), &graph_);
            cudaGraphDestroy(graph_);
            throw;
        }
        end(stream);
    }
    ~Graph();
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    void launch(const Stream& stream) { check(cudaGraphLaunch(ready_, stream.get()), "a graph"); }

 private:
    static void begin(const Stream& stream);
    void end(const Stream& stream);

    cudaGraph_t graph_ = nullptr;
    cudaGraphExec_t ready_ = nullptr;
};

}  // namespace d2export::tool
