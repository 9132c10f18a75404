// Stands in for CUDA's driver, libcuda.so.1: one GPU whose work is done on the CPU, when its stream
// is waited for and not before. What a driver may refuse it refuses: memory that is not there,
// calls without a current context, what may not be recorded. Its first failure is that of all later
// calls.
//
//   STAND_IN_REFUSES   gpu: there is none; capture: nothing is recorded; memory: none is given from
//   STAND_IN_MEMORY    that allocation on, counted from 1
//   STAND_IN_COMPUTE   the compute capability; default: 8.7
//   STAND_IN_TOLD      file that gets a line with what is still there when the process ends

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "device_memory.h"
#include "gpu.h"
#include "stand_in.h"
#include "streams.h"

struct CUctx_st {
    std::atomic<int> retained{0};
};

struct CUgraph_st {
    stand_in::Works works;
};

struct CUgraphExec_st {
    stand_in::Works works;
};

namespace {

using stand_in::Work;
using stand_in::Works;

struct Gpu {
    stand_in::DeviceMemory memory;
    stand_in::Captures captures;
    CUctx_st primary;
    std::atomic<bool> initialised{false}, failed{false};
    std::atomic<long long> allocations{0}, copies{0}, launches{0}, graph_launches{0}, graphs{0};

    std::mutex mutex;  // for those below
    std::set<CUstream> streams;
    std::map<std::uintptr_t, std::size_t> pinned;
};

// Never destroyed: whatever is destroyed at the end of the process may call it.
Gpu& gpu() {
    static Gpu* const one = std::make_unique<Gpu>().release();
    return *one;
}

thread_local std::vector<CUcontext> contexts;

void failed(const std::string& why) {
    std::fprintf(stderr, "the stand-in GPU fails: %s\n", why.c_str());
    gpu().failed = true;
}

CUresult state() {
    if (!gpu().initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (contexts.empty() || contexts.back()->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    return gpu().failed ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS;
}

// For calls that are unsafe while a stream records.
CUresult safe_state() {
    const CUresult found = state();
    if (found != CUDA_SUCCESS) return found;
    return gpu().captures.allow_unsafe() ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult stream_state(CUstream stream) {
    const CUresult found = state();
    if (found != CUDA_SUCCESS) return found;
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    return gpu().streams.count(stream) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult put(CUstream stream, const Works& works) {
    const CUresult found = stream_state(stream);
    if (found != CUDA_SUCCESS) return found;
    const auto capture = stream->capture();
    if (capture != nullptr && gpu().captures.is_spoilt(*capture)) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    stream->add(works);
    return CUDA_SUCCESS;
}

CUresult put(CUstream stream, Work work) {
    return put(stream, Works{std::make_shared<const Work>(std::move(work))});
}

// Pinned memory has an end, too; of other memory of the host nothing is known.
void check_host(std::uintptr_t address, std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    const auto after = gpu().pinned.upper_bound(address);
    if (after == gpu().pinned.begin()) return;
    const auto& [first, size] = *std::prev(after);
    if (address - first < size && bytes > size - (address - first)) {
        throw std::to_string(bytes) + " bytes behind " + std::to_string(address - first) +
            " of pinned memory, which has " + std::to_string(size);
    }
}

template <typename Attempt>
CUresult attempted(const char* what, const Attempt& attempt) {
    try {
        attempt();
        return CUDA_SUCCESS;
    } catch (const std::string& why) {
        failed(std::string(what) + " " + why);
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
}

void copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
    auto& memory = gpu().memory;
    if (memory.owns(from) && memory.owns(to)) return memory.copy(from, to, bytes);
    if (memory.owns(from)) {
        check_host(to, bytes);
        return memory.read(from, bytes, reinterpret_cast<void*>(to));
    }
    check_host(from, bytes);
    if (memory.owns(to)) return memory.write(to, bytes, reinterpret_cast<const void*>(from));
    check_host(to, bytes);
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
}

CUresult put_copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    if (bytes == 0) return stream_state(stream);
    if (to == 0 || from == 0) return CUDA_ERROR_INVALID_VALUE;
    ++gpu().copies;
    return put(stream, [=] { return attempted("a copy of", [&] { copy(to, from, bytes); }); });
}

bool is_device(CUdeviceptr address) { return gpu().memory.owns(address); }
CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

long long environment_number(const char* name) {
    const char* const found = std::getenv(name);
    return found == nullptr ? 1 : std::atoll(found);
}

std::array<int, 2> compute_capability() {
    const char* const claimed = std::getenv("STAND_IN_COMPUTE");
    std::array<int, 2> found{8, 7};
    if (claimed != nullptr) std::sscanf(claimed, "%d.%d", &found[0], &found[1]);
    return found;
}

CUresult device_state(CUdevice device) {
    if (!gpu().initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

[[gnu::destructor]] void tell_what_is_left() {
    std::string line = "left";
    for (const char* const name :
         {"device bytes", "pinned bytes", "streams", "graphs", "contexts"}) {
        line += std::string(line == "left" ? " " : ", ") + std::to_string(stand_in_count(name)) +
                " " + name;
    }
    told(line);
}

}  // namespace

extern "C" {

// --- The device and its context

CUresult cuInit(unsigned) {
    if (refuses("gpu")) return CUDA_ERROR_NO_DEVICE;
    gpu().initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    *count = 1;
    return device_state(0);
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = ordinal;
    return device_state(ordinal);
}

CUresult cuDeviceGetName(char* name, int room, CUdevice device) {
    std::snprintf(name, static_cast<std::size_t>(room), "Stand-in GPU");
    return device_state(device);
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
            *value = compute_capability()[0];
            return device_state(device);
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
            *value = compute_capability()[1];
            return device_state(device);
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
            *value = 1;
            return device_state(device);
        case CU_DEVICE_ATTRIBUTE_INTEGRATED:
            *value = 0;
            return device_state(device);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
    *bytes = stand_in::DeviceMemory::kTotal;
    return device_state(device);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    const CUresult found = device_state(device);
    if (found != CUDA_SUCCESS) return found;
    ++gpu().primary.retained;
    *context = &gpu().primary;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    const CUresult found = device_state(device);
    if (found != CUDA_SUCCESS) return found;
    if (gpu().primary.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    --gpu().primary.retained;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
    if (context != &gpu().primary || context->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    contexts.push_back(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context != nullptr) *context = contexts.back();
    contexts.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
    *device = 0;
    return contexts.empty() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

// --- Memory

CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS) return found;
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    const long long number = ++gpu().allocations;
    if (refuses("memory") && number >= environment_number("STAND_IN_MEMORY")) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *address = gpu().memory.allocate(bytes);
    return *address != 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

// Releases even where an earlier failure is what it answers.
CUresult cuMemFree_v2(CUdeviceptr address) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS && !gpu().failed) return found;
    if (address == 0) return found;
    return gpu().memory.release(address) ? found : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemHostAlloc(void** address, std::size_t bytes, unsigned) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS) return found;
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = std::malloc(bytes);
    if (*address == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*address, 0xA5, bytes);
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    gpu().pinned[address_of(*address)] = bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* address) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS && !gpu().failed) return found;
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    if (gpu().pinned.erase(address_of(address)) == 0) return CUDA_ERROR_INVALID_VALUE;
    std::free(address);
    return found;
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return put_copy(to, from, bytes, stream);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes,
                              CUstream stream) {
    if (is_device(address_of(from)) || !is_device(to)) return CUDA_ERROR_INVALID_VALUE;
    return put_copy(to, address_of(from), bytes, stream);
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    if (is_device(address_of(to)) || !is_device(from)) return CUDA_ERROR_INVALID_VALUE;
    return put_copy(address_of(to), from, bytes, stream);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes,
                              CUstream stream) {
    if (!is_device(to) || !is_device(from)) return CUDA_ERROR_INVALID_VALUE;
    return put_copy(to, from, bytes, stream);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream) {
    if (bytes == 0) return stream_state(stream);
    return put(stream, [=] {
        return attempted("a fill of", [&] { gpu().memory.fill(to, bytes, value); });
    });
}

// --- Streams

CUresult cuStreamCreate(CUstream* stream, unsigned) {
    const CUresult found = state();
    if (found != CUDA_SUCCESS) return found;
    *stream = std::make_unique<CUstream_st>(contexts.back()).release();
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    gpu().streams.insert(*stream);
    return CUDA_SUCCESS;
}

// What is on it is done first, as CUDA does it.
CUresult cuStreamDestroy_v2(CUstream stream) {
    const CUresult found = stream_state(stream);
    if (found != CUDA_SUCCESS && !gpu().failed) return found;
    const CUresult drained = gpu().failed ? found : stream->drain();
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    if (gpu().streams.erase(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
    const std::unique_ptr<CUstream_st> gone(stream);
    return drained;
}

CUresult cuStreamSynchronize(CUstream stream) {
    const CUresult found = stream_state(stream);
    if (found != CUDA_SUCCESS) return found;
    const auto capture = stream->capture();
    if (capture != nullptr) gpu().captures.spoil(*capture);
    if (!gpu().captures.allow_unsafe() || capture != nullptr) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return stream->drain();
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
    // A stream says it itself, whatever is current.
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    if (gpu().streams.count(stream) == 0) return CUDA_ERROR_INVALID_HANDLE;
    *context = stream->context();
    return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream stream, CUdevice* device) {
    CUcontext context = nullptr;
    *device = 0;
    return cuStreamGetCtx(stream, &context);
}

// --- Graphs

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    const CUresult found = stream_state(stream);
    if (found != CUDA_SUCCESS) return found;
    if (refuses("capture")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture() != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    stream->set_capture(gpu().captures.begin(mode));
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
    *graph = nullptr;
    const CUresult found = stream_state(stream);
    if (found != CUDA_SUCCESS) return found;
    const auto capture = stream->capture();
    if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        capture->thread != std::this_thread::get_id()) {
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    stream->set_capture(nullptr);
    gpu().captures.end(capture);
    if (capture->spoilt) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = std::make_unique<CUgraph_st>(CUgraph_st{capture->works}).release();
    ++gpu().graphs;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* ready, CUgraph graph, unsigned long long) {
    const CUresult found = state();
    if (found != CUDA_SUCCESS) return found;
    *ready = std::make_unique<CUgraphExec_st>(CUgraphExec_st{graph->works}).release();
    ++gpu().graphs;
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec ready, CUstream stream) {
    ++gpu().graph_launches;
    return put(stream, ready->works);
}

CUresult cuGraphExecDestroy(CUgraphExec ready) {
    const std::unique_ptr<CUgraphExec_st> gone(ready);
    --gpu().graphs;
    return state();
}

CUresult cuGraphDestroy(CUgraph graph) {
    const std::unique_ptr<CUgraph_st> gone(graph);
    --gpu().graphs;
    return state();
}

// --- Errors

CUresult cuGetErrorName(CUresult result, const char** name) {
#define STAND_IN_NAME(code) \
    case code:              \
        *name = #code;      \
        return CUDA_SUCCESS
    switch (result) {
        STAND_IN_NAME(CUDA_SUCCESS);
        STAND_IN_NAME(CUDA_ERROR_INVALID_VALUE);
        STAND_IN_NAME(CUDA_ERROR_OUT_OF_MEMORY);
        STAND_IN_NAME(CUDA_ERROR_NOT_INITIALIZED);
        STAND_IN_NAME(CUDA_ERROR_NO_DEVICE);
        STAND_IN_NAME(CUDA_ERROR_INVALID_DEVICE);
        STAND_IN_NAME(CUDA_ERROR_INVALID_CONTEXT);
        STAND_IN_NAME(CUDA_ERROR_INVALID_HANDLE);
        STAND_IN_NAME(CUDA_ERROR_ILLEGAL_STATE);
        STAND_IN_NAME(CUDA_ERROR_ILLEGAL_ADDRESS);
        STAND_IN_NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        STAND_IN_NAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        STAND_IN_NAME(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
        default:
            *name = nullptr;
            return CUDA_ERROR_INVALID_VALUE;
    }
#undef STAND_IN_NAME
}

CUresult cuGetErrorString(CUresult result, const char** text) {
    const CUresult found = cuGetErrorName(result, text);
    if (found == CUDA_SUCCESS) *text = "the stand-in refused it";
    return found;
}

// --- For the other stand-in, and for tests

int stand_in_launch(CUstream stream, int (*work)(void*), void (*dispose)(void*), void* user) {
    const std::shared_ptr<void> kept(user, dispose);
    ++gpu().launches;
    return put(stream, [=] { return static_cast<CUresult>(work(kept.get())); });
}

int stand_in_capturing(CUstream stream) { return stream->capture() != nullptr; }

int stand_in_has(CUdeviceptr address, std::size_t bytes) {
    return gpu().memory.has(address, bytes);
}

int stand_in_read(CUdeviceptr address, std::size_t bytes, void* to) {
    return attempted("a kernel reads", [&] { gpu().memory.read(address, bytes, to); }) ==
           CUDA_SUCCESS;
}

int stand_in_write(CUdeviceptr address, std::size_t bytes, const void* from) {
    return attempted("a kernel writes", [&] { gpu().memory.write(address, bytes, from); }) ==
           CUDA_SUCCESS;
}

void stand_in_fails(const char* why) { failed(why); }

long long stand_in_count(const char* name) {
    const std::string wanted = name;
    if (wanted == "allocations") return gpu().allocations;
    if (wanted == "copies") return gpu().copies;
    if (wanted == "launches") return gpu().launches;
    if (wanted == "graph launches") return gpu().graph_launches;
    if (wanted == "graphs") return gpu().graphs;
    if (wanted == "contexts") return gpu().primary.retained;
    if (wanted == "device bytes") return static_cast<long long>(gpu().memory.used());
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    if (wanted == "streams") return static_cast<long long>(gpu().streams.size());
    if (wanted != "pinned bytes") return -1;
    std::size_t bytes = 0;
    for (const auto& entry : gpu().pinned) bytes += entry.second;
    return static_cast<long long>(bytes);
}
}
