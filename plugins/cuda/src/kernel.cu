#include <cooperative_groups.h>

#include <type_traits>

#include "device_block.h"
#include "kernel.h"
#include "phases/all.h"

namespace d2export::cuda {
namespace {

template <typename T, Rule kRule>
__global__ void __launch_bounds__(kThreads, 2) prune_kernel(const Problem problem) {
    using Shared = std::conditional_t<kRule == Rule::kD2, D2Shared, PairsShared>;
    __shared__ alignas(128) unsigned char shared[sizeof(Shared)];
    DeviceBlock block(shared);
    run_phases<T, kRule>(block, problem, [] { cooperative_groups::this_grid().sync(); });
}

using Kernel = void (*)(Problem);

template <Rule kRule>
Kernel instance_of(DataType type) noexcept {
    switch (type) {
        case DataType::kFloat16:
            return prune_kernel<Half, kRule>;
        case DataType::kBFloat16:
            return prune_kernel<BFloat16, kRule>;
        case DataType::kFloat32:
            break;
    }
    return prune_kernel<float, kRule>;
}

Kernel instance_of(Rule rule, DataType type) noexcept {
    switch (rule) {
        case Rule::kMaxMin:
            return instance_of<Rule::kMaxMin>(type);
        case Rule::kDpp:
            return instance_of<Rule::kDpp>(type);
        case Rule::kDeduplicate:
            return instance_of<Rule::kDeduplicate>(type);
        case Rule::kD2:
            break;
    }
    return instance_of<Rule::kD2>(type);
}

}  // namespace

const void* kernel_of(Rule rule, DataType type) noexcept {
    return reinterpret_cast<const void*>(instance_of(rule, type));
}

}  // namespace d2export::cuda
