#include <cooperative_groups.h>

#include <algorithm>

#include "d2export/cuda.h"
#include "device_block.h"
#include "phases/all.h"

namespace d2export::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kThreads, 2) prune_kernel(const Problem problem) {
    __shared__ alignas(128) unsigned char shared[sizeof(AnyShared)];
    DeviceBlock block(shared);
    run_phases<T>(block, problem, [] { cooperative_groups::this_grid().sync(); });
}

using Kernel = void (*)(Problem);

Kernel kernel_of(DataType type) noexcept {
    switch (type) {
        case DataType::kFloat16:
            return prune_kernel<Half>;
        case DataType::kBFloat16:
            return prune_kernel<BFloat16>;
        case DataType::kFloat32:
            break;
    }
    return prune_kernel<float>;
}

// All blocks of a cooperative launch run at once: no more than fit, and no more than have work.
cudaError_t blocks_for(Kernel kernel, const Problem& problem, unsigned* blocks) noexcept {
    int device = 0;
    int processors = 0;
    int resident = 0;
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess) {
        status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (status == cudaSuccess) {
        status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreads, 0);
    }
    const std::int64_t useful = static_cast<std::int64_t>(problem.shape.batch) * kTile * 2;
    *blocks = static_cast<unsigned>(std::clamp<std::int64_t>(useful, 1, processors * resident));
    return status;
}

}  // namespace

std::string fault(const Shape& shape) {
    if (shape.tokens > kMaxTokens) {
        return "features has " + std::to_string(shape.tokens) + " tokens, expected at most " +
               std::to_string(kMaxTokens);
    }
    if (shape.channels > kMaxChannels) {
        return "features has " + std::to_string(shape.channels) + " channels, expected at most " +
               std::to_string(kMaxChannels);
    }
    return {};
}

std::size_t workspace_bytes(const Shape& shape, const Parameters& parameters) noexcept {
    std::size_t bytes = 0;
    lay_out(shape, DataType::kFloat32, parameters, nullptr, &bytes);
    return bytes;
}

cudaError_t prune(const Shape& shape, const Inputs& inputs, const Parameters& parameters,
                  void* kept, std::int32_t* indices, void* workspace,
                  cudaStream_t stream) noexcept {
    if (shape.batch == 0 || shape.tokens == 0) {
        return cudaSuccess;
    }
    Problem problem = lay_out(shape, inputs.type, parameters, workspace, nullptr);
    problem.inputs = inputs;
    problem.kept = kept;
    problem.indices = indices;
    const Kernel kernel = kernel_of(inputs.type);
    unsigned blocks = 0;
    const cudaError_t status = blocks_for(kernel, problem, &blocks);
    if (status != cudaSuccess) {
        return status;
    }
    void* arguments[] = {&problem};
    return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kernel), dim3(blocks),
                                       dim3(kThreads), arguments, 0, stream);
}

}  // namespace d2export::cuda
