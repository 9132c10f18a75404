// How the kernels are launched, against a CUDA runtime that is acted out here: no CUDA library, no
// GPU. What the runtime answers is in `runtime`, and what it was asked.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "acted_launch.h"

namespace {

using namespace d2export;
using namespace d2export::tests;

cudaError_t answer(cudaError_t status) {
    if (status != cudaSuccess) {
        runtime.last_error = status;
    }
    return status;
}

constexpr Shape kShape{/*batch=*/2, /*heads=*/1, /*tokens=*/576, /*channels=*/1024};
template <typename Attributes = Parameters>
Attributes parameters() {
    Attributes made;
    made.keep = 64;
    return made;
}

template <typename Attributes>
cudaError_t prune_by(const Attributes& attributes, const Shape& shape = kShape,
                     DataType type = DataType::kFloat16, void* workspace = nullptr) {
    Inputs inputs{};
    inputs.type = type;
    return cuda::prune(shape, inputs, attributes, nullptr, nullptr, workspace, nullptr);
}

cudaError_t prune(const Shape& shape = kShape, DataType type = DataType::kFloat16,
                  void* workspace = nullptr) {
    return prune_by(parameters(), shape, type, workspace);
}

void check_a_launch() {
    runtime = {};
    runtime.last_error = cudaErrorUnknown;  // somebody else's
    demand(prune() == cudaSuccess, "a launch");
    demand(runtime.launches == std::vector<unsigned>{264}, "as many blocks as fit");
    demand(runtime.kernel == &kernels[0][1], "the kernel for float16");
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
    const std::pair<DataType, const char*> of_types[] = {{DataType::kFloat32, &kernels[0][0]},
                                                         {DataType::kFloat16, &kernels[0][1]},
                                                         {DataType::kBFloat16, &kernels[0][2]}};
    for (const auto& [type, kernel] : of_types) {
        demand(cuda::prepare(type) == cudaSuccess && runtime.kernel == kernel, "what is prepared");
    }
    runtime.get_function = cudaErrorNoKernelImageForDevice;
    demand(cuda::prepare(DataType::kFloat32) == cudaErrorNoKernelImageForDevice, "no such kernel");
    demand(runtime.last_error == cudaSuccess, "its error is taken back");
}

// Wherever the workspace starts, its arrays are aligned, lie inside and do not overlap, for the
// widest type, too.
template <typename Attributes>
void check_workspace(std::size_t count) {
    const auto attributes = parameters<Attributes>();
    const std::size_t bytes = cuda::workspace_bytes(kShape, attributes);
    const auto base = std::uintptr_t{1} << 40;  // nothing is read or written there
    for (std::size_t start = 0; start < 512; start += 16) {
        runtime = {};
        auto* const workspace = reinterpret_cast<unsigned char*>(base + start);
        demand(prune_by(attributes, kShape, DataType::kFloat32, workspace) == cudaSuccess,
               "a launch anywhere");
        const std::vector<Array> arrays = arrays_of(runtime.problem);
        demand(arrays.size() == count, "the arrays that the op has");
        check_arrays(arrays, workspace, bytes);
    }
}

template <typename Attributes>
void check_growth() {
    std::size_t before = 0;
    for (std::int32_t tokens = 0; tokens < 300; ++tokens) {
        Attributes share;
        share.keep_permille = 250;
        const std::size_t bytes = cuda::workspace_bytes({1, 1, tokens, 64}, share);
        demand(bytes >= before, "a workspace no smaller for more tokens");
        before = bytes;
    }
}

// Of the ops besides D2Prune.
template <typename Attributes>
void check_rule(cuda::Rule rule, std::size_t arrays) {
    runtime = {};
    demand(prune_by(parameters<Attributes>()) == cudaSuccess, "a launch");
    demand(runtime.launches == std::vector<unsigned>{180}, "as many blocks as have work");
    demand(runtime.kernel == &kernels[static_cast<std::size_t>(rule)][1], "the op's own kernel");
    demand(cuda::prepare<Attributes>(DataType::kBFloat16) == cudaSuccess &&
               runtime.kernel == &kernels[static_cast<std::size_t>(rule)][2],
           "what is prepared");
    runtime = {};
    demand(prune_by(parameters<Attributes>(), {1, 1, 3328, 4096}) == cudaSuccess &&
               runtime.launches == std::vector<unsigned>{264},
           "as many blocks as fit");
    check_workspace<Attributes>(arrays);
    check_growth<Attributes>();
    const auto fault = [](std::int32_t batch, std::int32_t tokens) {
        return cuda::fault<Attributes>({batch, 1, tokens, 8});
    };
    demand(fault(4, 16384).empty() && fault(-1, -1).empty() && fault(1 << 18, 1).empty(),
           "the largest batches");
    demand(fault(5, 16384) ==
               "features has a batch of 5 pictures of 16384 tokens, expected at most 4 of them; "
               "split the batch",
           "pairs beyond the limit");
    demand(!fault((1 << 18) + 1, 1).empty(), "a picture counts as no less than a tile");
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

const void* kernel_of(Rule rule, DataType type) noexcept {
    return &tests::kernels[static_cast<std::size_t>(rule)][static_cast<std::size_t>(type)];
}

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
    const bool is_prompt = kernel >= &kernels[4][0] && kernel <= &kernels[4][2];
    if (is_prompt) {
        runtime.problem = *static_cast<const cuda::PromptProblem*>(arguments[0]);
    } else {
        static_cast<cuda::Problem&>(runtime.problem) =
            *static_cast<const cuda::Problem*>(arguments[0]);
    }
    return answer(blocks.x > runtime.fits ? cudaErrorCooperativeLaunchTooLarge : runtime.launch);
}

}  // extern "C"

int main() {
    check_a_launch();
    check_errors();
    check_fewer_blocks();
    check_prepare();
    check_workspace<Parameters>(12);
    check_growth<Parameters>();
    check_limits();
    check_rule<MaxMinParameters>(cuda::Rule::kMaxMin, 4);
    check_rule<DppParameters>(cuda::Rule::kDpp, 10);
    check_rule<DeduplicateParameters>(cuda::Rule::kDeduplicate, 6);
    check_positions();
    std::printf("PASSED\n");
}
