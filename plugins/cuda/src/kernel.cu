#include <cooperative_groups.h>

#include "device_block.h"
#include "kernel.h"
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

Kernel instance_of(DataType type) noexcept {
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

}  // namespace

const void* kernel_of(DataType type) noexcept {
    return reinterpret_cast<const void*>(instance_of(type));
}

}  // namespace d2export::cuda
