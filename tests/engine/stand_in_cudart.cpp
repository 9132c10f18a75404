// Stands in for the CUDA runtime where Python loads it: the GPU's memory is the host's, its clock
// the host's, and work is done when it is put on a stream. tests/engine/test_cuda_runtime.py
// compares these declarations with CUDA's own.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#ifdef WITH_CUDA_HEADERS
#include <cuda_runtime_api.h>
#else
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
constexpr cudaError_t cudaErrorStreamCaptureUnsupported = static_cast<cudaError_t>(900);
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
using cudaEvent_t = struct CUevent_st*;
using cudaStream_t = struct CUstream_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
#endif

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t total = std::size_t{1} << 32;

std::map<std::uintptr_t, std::size_t> blocks;  // bytes by address
std::size_t used = 0;
std::size_t most_used = 0;
bool recording = false;
bool refusing_to_record = false;
int replays = 0;

}  // namespace

struct CUevent_st {
    Clock::time_point at;
};
struct CUstream_st {};
struct CUgraph_st {};
struct CUgraphExec_st {};

extern "C" {

const char* cudaGetErrorString(cudaError_t status) {
    return status == cudaErrorStreamCaptureUnsupported ? "operation not permitted when capturing"
                                                       : "out of memory";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaDeviceGetPCIBusId(char* text, int, int) {
    std::strcpy(text, "0000:17:00.0");
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* all) {
    *all = total;
    *free = total - used;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void** address, std::size_t bytes) {
    if (used + bytes > total) return cudaErrorMemoryAllocation;
    *address = bytes == 0 ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*address == nullptr) return cudaSuccess;
    blocks[reinterpret_cast<std::uintptr_t>(*address)] = bytes;
    used += bytes;
    most_used = used > most_used ? used : most_used;
    return cudaSuccess;
}
cudaError_t cudaFree(void* address) {
    if (address == nullptr) return cudaSuccess;
    const auto found = blocks.find(reinterpret_cast<std::uintptr_t>(address));
    if (found == blocks.end()) return cudaErrorInvalidValue;
    used -= found->second;
    blocks.erase(found);
    std::free(address);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind) {
    std::memcpy(target, source, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(target, source, bytes, kind);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    *stream = new CUstream_st();
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return recording ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    *event = new CUevent_st();
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    event->at = Clock::now();
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    *milliseconds = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
    if (refusing_to_record) return cudaErrorStreamCaptureUnsupported;
    recording = true;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
    recording = false;
    *graph = new CUgraph_st();
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* ready, cudaGraph_t, unsigned long long) {
    *ready = new CUgraphExec_st();
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
    ++replays;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
    delete ready;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

// What tests ask.

int stand_in_has(std::uintptr_t address, std::size_t bytes) {
    auto block = blocks.upper_bound(address);
    if (block == blocks.begin()) return 0;
    --block;
    return address + bytes <= block->first + block->second ? 1 : 0;
}
int stand_in_records() { return recording ? 1 : 0; }
int stand_in_replays() { return replays; }
std::size_t stand_in_used() { return used; }
std::size_t stand_in_most_used() { return most_used; }
void stand_in_begin(int refuse_to_record) {
    refusing_to_record = refuse_to_record != 0;
    recording = false;
    replays = 0;
    most_used = used;
}
}
