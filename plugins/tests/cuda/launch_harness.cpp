// How the kernel is launched, against a CUDA runtime that is acted out here: no CUDA library, no
// GPU. What the runtime answers is in `runtime`, and what it was asked.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../../cuda/src/kernel.h"
#include "../../cuda/src/problem.h"
#include "d2export/cuda.h"

namespace {

using namespace d2export;

struct Runtime {
    cudaError_t get_device = cudaSuccess;
    cudaError_t get_attribute = cudaSuccess;
    cudaError_t get_occupancy = cudaSuccess;
    cudaError_t get_function = cudaSuccess;
    cudaError_t launch = cudaSuccess;
    int resident = 2;         // blocks of each of the 132 processors
    unsigned fits = 1 << 20;  // blocks of one launch
    cudaError_t last_error = cudaSuccess;
    std::vector<unsigned> launches = {};  // blocks of each
    cuda::Problem problem = {};           // of the last launch
    const void* kernel = nullptr;         // the last asked for
};
Runtime runtime;

cudaError_t answer(cudaError_t status) {
    if (status != cudaSuccess) {
        runtime.last_error = status;
    }
    return status;
}

void demand(bool condition, const std::string& what) {
    if (!condition) {
        std::printf("FAILED: %s\n", what.c_str());
        std::exit(1);
    }
}

constexpr Shape kShape{/*batch=*/2, /*heads=*/1, /*tokens=*/576, /*channels=*/1024};
const char kernels[3] = {};  // their addresses stand for the kernels

Parameters parameters() {
    Parameters made;
    made.keep = 64;
    return made;
}

cudaError_t prune(const Shape& shape = kShape, DataType type = DataType::kFloat16,
                  void* workspace = nullptr) {
    Inputs inputs{};
    inputs.type = type;
    return cuda::prune(shape, inputs, parameters(), nullptr, nullptr, workspace, nullptr);
}

void check_a_launch() {
    runtime = {};
    runtime.last_error = cudaErrorUnknown;  // somebody else's
    demand(prune() == cudaSuccess, "a launch");
    demand(runtime.launches == std::vector<unsigned>{264}, "as many blocks as fit");
    demand(runtime.kernel == &kernels[1], "the kernel for float16");
    demand(runtime.last_error == cudaErrorUnknown, "another's error stays");

    runtime = {};
    Shape one = kShape;
    one.batch = 1;
    demand(prune(one) == cudaSuccess && runtime.launches == std::vector<unsigned>{256},
           "no more blocks than have work");
    runtime = {};
    one.batch = 0;
    demand(prune(one) == cudaSuccess && runtime.launches.empty(), "no launch for no picture");
}

void check_errors() {
    for (cudaError_t Runtime::*const call :
         {&Runtime::get_device, &Runtime::get_attribute, &Runtime::get_occupancy}) {
        runtime = {};
        runtime.*call = cudaErrorInsufficientDriver;
        demand(prune() == cudaErrorInsufficientDriver, "what a question returned");
        demand(runtime.launches.empty(), "no launch without an answer");
        demand(runtime.last_error == cudaSuccess, "the question's error is taken back");
    }
    runtime = {};
    runtime.launch = cudaErrorInvalidValue;
    demand(prune() == cudaErrorInvalidValue && runtime.launches.size() == 1, "one failing launch");
    demand(runtime.last_error == cudaSuccess, "its error is taken back");

    runtime = {};
    runtime.resident = 0;
    runtime.last_error = cudaErrorUnknown;
    demand(prune() == cudaErrorInvalidConfiguration, "a kernel of which no block fits");
    demand(runtime.launches.empty() && runtime.last_error == cudaErrorUnknown,
           "no launch, and no call that failed");
}

void check_fewer_blocks() {
    runtime = {};
    runtime.fits = 40;
    demand(prune() == cudaSuccess, "a launch with fewer blocks");
    demand(runtime.launches == std::vector<unsigned>{264, 132, 66, 33}, "half as many each time");
    demand(runtime.last_error == cudaSuccess, "nothing is left of the launches that failed");
    runtime = {};
    runtime.fits = 1;
    demand(prune() == cudaSuccess && runtime.launches.back() == 1, "a launch with one block");
    runtime = {};
    runtime.fits = 0;
    demand(prune() == cudaErrorCooperativeLaunchTooLarge && runtime.launches.back() == 1,
           "no launch at all");
}

void check_prepare() {
    runtime = {};
    const std::pair<DataType, const char*> of_types[] = {{DataType::kFloat32, &kernels[0]},
                                                         {DataType::kFloat16, &kernels[1]},
                                                         {DataType::kBFloat16, &kernels[2]}};
    for (const auto& [type, kernel] : of_types) {
        demand(cuda::prepare(type) == cudaSuccess && runtime.kernel == kernel, "what is prepared");
    }
    runtime.get_function = cudaErrorNoKernelImageForDevice;
    demand(cuda::prepare(DataType::kFloat32) == cudaErrorNoKernelImageForDevice, "no such kernel");
    demand(runtime.last_error == cudaSuccess, "its error is taken back");
}

// Wherever the workspace starts, its arrays are aligned and lie inside, for the widest type, too.
void check_workspace() {
    const std::size_t bytes = cuda::workspace_bytes(kShape, parameters());
    std::vector<unsigned char> memory(bytes + 512);
    for (std::size_t start = 0; start < 512; start += 16) {
        runtime = {};
        unsigned char* const workspace = memory.data() + start;
        demand(prune(kShape, DataType::kFloat32, workspace) == cudaSuccess, "a launch anywhere");
        const auto* const first =
            reinterpret_cast<const unsigned char*>(runtime.problem.workspace.keys);
        const auto* const last =
            reinterpret_cast<const unsigned char*>(runtime.problem.workspace.open);
        demand(reinterpret_cast<std::uintptr_t>(first) % 256 == 0, "arrays are aligned");
        demand(first >= workspace && last + 256 <= workspace + bytes, "arrays lie inside");
    }
}

void check_limits() {
    const auto fault = [](std::int32_t batch, std::int32_t tokens, std::int32_t channels) {
        return cuda::fault({batch, 1, tokens, channels});
    };
    demand(fault(1, 16384, 8192).empty() && fault(-1, -1, -1).empty() && fault(0, 0, 0).empty(),
           "the largest picture, an unknown one, none");
    demand(fault(1, 16385, 8) == "features has 16385 tokens, expected at most 16384", "tokens");
    demand(fault(1, 576, 8193) == "features has 8193 channels, expected at most 8192", "channels");
    demand(fault(1 << 16, 16384, 8).empty(), "the largest batch of the largest pictures");
    demand(fault((1 << 16) + 1, 16384, 8) ==
               "features has a batch of 65537 pictures of 16384 tokens, expected at most 65536 of "
               "them; split the batch",
           "one more");
    demand(fault(1 << 23, 1, 8).empty() && !fault((1 << 23) + 1, 1, 8).empty(),
           "a picture counts as no less than a tile");
}

}  // namespace

namespace d2export::cuda {

const void* kernel_of(DataType type) noexcept { return &kernels[static_cast<std::size_t>(type)]; }

}  // namespace d2export::cuda

extern "C" {

cudaError_t cudaGetLastError() { return std::exchange(runtime.last_error, cudaSuccess); }

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return answer(runtime.get_device);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = runtime.get_attribute == cudaSuccess ? 132 : 0;
    return answer(runtime.get_attribute);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int,
                                                          std::size_t) {
    *blocks = runtime.get_occupancy == cudaSuccess ? runtime.resident : 0;
    return answer(runtime.get_occupancy);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* kernel) {
    runtime.kernel = kernel;
    return answer(runtime.get_function);
}

cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 blocks, dim3, void** arguments,
                                        std::size_t, cudaStream_t) {
    runtime.kernel = kernel;
    runtime.launches.push_back(blocks.x);
    std::memcpy(&runtime.problem, arguments[0], sizeof runtime.problem);
    return answer(blocks.x > runtime.fits ? cudaErrorCooperativeLaunchTooLarge : runtime.launch);
}

}  // extern "C"

int main() {
    check_a_launch();
    check_errors();
    check_fewer_blocks();
    check_prepare();
    check_workspace();
    check_limits();
    std::printf("PASSED\n");
}
