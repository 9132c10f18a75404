// CUDA's functions for streams and graphs.

#include <memory>

#include "driver.h"
#include "stand_in.h"

struct CUgraph_st {
    stand_in::Works works;
};

struct CUgraphExec_st {
    stand_in::Works works;
};

using stand_in::contexts;
using stand_in::gpu;
using stand_in::state;
using stand_in::stream_state;

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned) {
    const CUresult found = state();
    if (found != CUDA_SUCCESS) return found;
    *stream = std::make_unique<CUstream_st>(contexts().back()).release();
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    gpu().streams.insert(*stream);
    return CUDA_SUCCESS;
}

// What is on it is done first, as CUDA does it.
CUresult cuStreamDestroy_v2(CUstream stream) {
    const CUresult found = stream_state(stream);
    if (found != CUDA_SUCCESS && !gpu().failed) return found;
    const CUresult drained = gpu().failed ? found : stream->drain();
    const auto capture = stream->capture();
    if (capture != nullptr) gpu().captures.end(capture);
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
    return stand_in::put(stream, ready->works);
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
}
