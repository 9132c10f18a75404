#include "device.h"

#include "failure.h"

namespace d2export::tool {

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    throw mismatch(std::string("CUDA cannot do ") + what + ": " + cudaGetErrorString(status) +
                       " (" + cudaGetErrorName(status) + ")",
                   "Look at nvidia-smi (on a Jetson: tegrastats) for the GPU's state and memory.");
}

void need_gpu() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return;
    const std::string why =
        status == cudaSuccess ? "" : std::string(": ") + cudaGetErrorString(status);
    throw mismatch("this machine has no NVIDIA GPU that CUDA sees" + why,
                   "Copy the ONNX file and the plan to the device, and run the tool there.");
}

std::string gpu_name() {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, 0), "a look at the GPU");
    return properties.name;
}

std::size_t free_memory() {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "a look at the GPU's memory");
    return free;
}

DeviceMemory::DeviceMemory(std::size_t bytes) {
    // TensorRT wants an address for tensors without elements, too.
    const std::size_t least = bytes == 0 ? 1 : bytes;
    const std::string what = "with " + std::to_string(least) + " bytes more of the GPU's memory";
    check(cudaMalloc(&address_, least), what.c_str());
}

double Event::since(const Event& start) const {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.event_, event_), "a time");
    return static_cast<double>(milliseconds);
}

void Graph::begin(const Stream& stream) {
    check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal),
          "the recording of a graph");
}

void Graph::end(const Stream& stream) {
    check(cudaStreamEndCapture(stream.get(), &graph_), "the recording of a graph");
    check(cudaGraphInstantiateWithFlags(&ready_, graph_, 0), "a graph");
}

Graph::~Graph() {
    if (ready_ != nullptr) cudaGraphExecDestroy(ready_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
}

}  // namespace d2export::tool
