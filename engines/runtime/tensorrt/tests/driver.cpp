#include "driver.h"

#include <cstdio>

#include "gpu.h"
#include "stand_in.h"

namespace stand_in {

// Never destroyed: whatever is destroyed at the end of the process may call it.
Gpu& gpu() {
    static Gpu* const one = std::make_unique<Gpu>().release();
    return *one;
}

std::vector<CUcontext>& contexts() {
    thread_local std::vector<CUcontext> found;
    return found;
}

void fail(const std::string& why) {
    std::fprintf(stderr, "the stand-in GPU fails: %s\n", why.c_str());
    gpu().failed = true;
}

CUresult state() {
    if (!gpu().initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (contexts().empty() || contexts().back()->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    return gpu().failed ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS;
}

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

}  // namespace stand_in

using stand_in::gpu;

namespace {

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

int stand_in_launch(CUstream stream, int (*work)(void*), void (*dispose)(void*), void* user) {
    const std::shared_ptr<void> kept(user, dispose);
    ++gpu().launches;
    return stand_in::put(stream, [=] { return static_cast<CUresult>(work(kept.get())); });
}

int stand_in_capturing(CUstream stream) { return stream->capture() != nullptr; }

int stand_in_has(CUdeviceptr address, std::size_t bytes) {
    return gpu().memory.has(address, bytes);
}

int stand_in_read(CUdeviceptr address, std::size_t bytes, void* to) {
    return stand_in::attempted("a kernel reads", [&] { gpu().memory.read(address, bytes, to); }) ==
           CUDA_SUCCESS;
}

int stand_in_write(CUdeviceptr address, std::size_t bytes, const void* from) {
    return stand_in::attempted("a kernel writes",
                               [&] { gpu().memory.write(address, bytes, from); }) == CUDA_SUCCESS;
}

void stand_in_fails(const char* why) { stand_in::fail(why); }

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
