#include "cases.h"

#include <atomic>
#include <functional>
#include <iostream>
#include <thread>
#include <vector>

void say(const std::string& what, CUresult result) {
    const char* name = nullptr;
    cuGetErrorName(result, &name);
    std::cout << what << ' ' << (name == nullptr ? "?" : name) << std::endl;
}

CUdeviceptr memory(std::size_t bytes) {
    CUdeviceptr address = 0;
    const CUresult result = cuMemAlloc_v2(&address, bytes);
    if (result != CUDA_SUCCESS) say("memory", result);
    return address;
}

namespace {

void read_by_host(CUstream) { std::cout << *reinterpret_cast<const volatile char*>(memory(64)); }

void write_by_host(CUstream) { *reinterpret_cast<volatile char*>(memory(64)) = 1; }

void copy_behind_the_end(CUstream stream) {
    const std::vector<char> bytes(65);
    say("copy", cuMemcpyHtoDAsync_v2(memory(64), bytes.data(), bytes.size(), stream));
    say("wait", cuStreamSynchronize(stream));
    say("later", cuStreamSynchronize(stream));
}

void copy_from_the_middle(CUstream stream) {
    std::vector<char> bytes(64);
    say("copy", cuMemcpyDtoHAsync_v2(bytes.data(), memory(64) + 1, 64, stream));
    say("wait", cuStreamSynchronize(stream));
}

void copy_of_freed_memory(CUstream stream) {
    std::vector<char> bytes(64);
    const CUdeviceptr address = memory(64);
    say("copy", cuMemcpyDtoHAsync_v2(bytes.data(), address, 64, stream));
    say("free", cuMemFree_v2(address));
    say("wait", cuStreamSynchronize(stream));
}

void freed_twice(CUstream) {
    const CUdeviceptr address = memory(64);
    say("free", cuMemFree_v2(address));
    say("free", cuMemFree_v2(address));
}

void late_change(CUstream stream) {
    unsigned char given = 1, found = 0, fresh = 0;
    const CUdeviceptr address = memory(2);
    cuMemcpyHtoDAsync_v2(address, &given, 1, stream);
    cuMemcpyDtoHAsync_v2(&found, address, 1, stream);
    cuMemcpyDtoHAsync_v2(&fresh, address + 1, 1, stream);
    given = 7;
    std::cout << int{found} << ' ';
    cuStreamSynchronize(stream);
    std::cout << int{found} << ' ' << int{fresh} << std::endl;
}

void other_memory(CUstream stream) {
    char byte = 0;
    CUdeviceptr address = 0;
    say("none", cuMemAlloc_v2(&address, 0));
    say("host", cuMemcpyHtoDAsync_v2(reinterpret_cast<CUdeviceptr>(&byte), &byte, 1, stream));
    const CUdeviceptr a = memory(4);
    say("overlap", cuMemcpyDtoDAsync_v2(a + 1, a, 2, stream));
    say("wait", cuStreamSynchronize(stream));
}

void no_context(CUstream stream) {
    CUcontext context = nullptr;
    cuCtxPopCurrent_v2(&context);
    CUdeviceptr address = 0;
    say("memory", cuMemAlloc_v2(&address, 1));
    say("wait", cuStreamSynchronize(stream));
    std::thread([&] { say("thread", cuStreamSynchronize(stream)); }).join();
    cuCtxPushCurrent_v2(context);
    cuDevicePrimaryCtxRelease_v2(0);
    say("released", cuStreamSynchronize(stream));
}

void recorded(CUstream stream) {
    unsigned char given = 1, found = 0;
    const CUdeviceptr address = memory(1);
    CUgraph graph = nullptr;
    CUgraphExec ready = nullptr;
    say("begin", cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    cuMemcpyHtoDAsync_v2(address, &given, 1, stream);
    cuMemcpyDtoHAsync_v2(&found, address, 1, stream);
    say("end", cuStreamEndCapture(stream, &graph));
    if (graph == nullptr) return;
    say("wait", cuStreamSynchronize(stream));
    say("ready", cuGraphInstantiateWithFlags(&ready, graph, 0));
    cuGraphDestroy(graph);
    for (unsigned char value = 2; value < 4; ++value) {
        std::cout << int{found} << ' ';
        given = value;
        cuGraphLaunch(ready, stream);
        cuStreamSynchronize(stream);
    }
    std::cout << int{found} << std::endl;
    cuGraphExecDestroy(ready);
}

void spoilt(CUstream stream) {
    using Call = std::function<CUresult()>;
    CUdeviceptr address = 0;
    const auto attempt = [&](const char* what, CUstreamCaptureMode mode, const Call& call) {
        CUgraph graph = nullptr;
        cuStreamBeginCapture_v2(stream, mode);
        say(what, call());
        say("  end", cuStreamEndCapture(stream, &graph));
        if (graph != nullptr) cuGraphDestroy(graph);
    };
    const Call allocate = [&] { return cuMemAlloc_v2(&address, 1); };
    const Call elsewhere = [&] {
        CUresult found = CUDA_SUCCESS;
        std::thread([&] {
            cuCtxPushCurrent_v2([&] {
                CUcontext context = nullptr;
                cuStreamGetCtx(stream, &context);
                return context;
            }());
            found = allocate();
        }).join();
        return found;
    };
    attempt("wait", CU_STREAM_CAPTURE_MODE_RELAXED, [&] { return cuStreamSynchronize(stream); });
    attempt("allocate", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, allocate);
    attempt("relaxed", CU_STREAM_CAPTURE_MODE_RELAXED, allocate);
    attempt("elsewhere", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, elsewhere);
    attempt("global", CU_STREAM_CAPTURE_MODE_GLOBAL, elsewhere);
}

void left(CUstream) {
    void* pinned = nullptr;
    memory(100);
    cuMemHostAlloc(&pinned, 10, 0);
}

// Each thread has its own stream and graph, and a number that goes to the GPU and back.
void threads(CUstream stream) {
    CUcontext context = nullptr;
    cuStreamGetCtx(stream, &context);
    std::atomic<int> equal{0};
    const auto work = [&](unsigned char number) {
        CUstream own = nullptr;
        CUgraph graph = nullptr;
        CUgraphExec ready = nullptr;
        unsigned char found = 0;
        cuCtxPushCurrent_v2(context);
        cuStreamCreate(&own, CU_STREAM_NON_BLOCKING);
        for (int round = 0; round < 50; ++round) {
            const CUdeviceptr address = memory(1);
            cuStreamBeginCapture_v2(own, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
            cuMemcpyHtoDAsync_v2(address, &number, 1, own);
            cuMemcpyDtoHAsync_v2(&found, address, 1, own);
            cuStreamEndCapture(own, &graph);
            cuGraphInstantiateWithFlags(&ready, graph, 0);
            cuGraphLaunch(ready, own);
            cuStreamSynchronize(own);
            if (found == number) ++equal;
            ++number;
            cuGraphExecDestroy(ready);
            cuGraphDestroy(graph);
            cuMemFree_v2(address);
        }
        cuStreamDestroy_v2(own);
    };
    std::vector<std::thread> running;
    for (unsigned char number = 0; number < 4; ++number) running.emplace_back(work, number);
    for (std::thread& one : running) one.join();
    std::cout << equal << " equal" << std::endl;
}

}  // namespace

const std::map<std::string, void (*)(CUstream)>& cases() {
    static const std::map<std::string, void (*)(CUstream)> found = {
        {"read by host", read_by_host},
        {"write by host", write_by_host},
        {"copy behind the end", copy_behind_the_end},
        {"copy from the middle", copy_from_the_middle},
        {"copy of freed memory", copy_of_freed_memory},
        {"freed twice", freed_twice},
        {"late change", late_change},
        {"other memory", other_memory},
        {"no context", no_context},
        {"recorded", recorded},
        {"spoilt", spoilt},
        {"left", left},
        {"threads", threads},
    };
    return found;
}
