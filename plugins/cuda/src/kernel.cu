#include <cooperative_groups.h>

#include "device_block.h"
#include "kernel.h"
#include "phases/all.h"

namespace d2export::cuda {
namespace {

template <typename T, Rule kRule>
__global__ void __launch_bounds__(kThreads, 2) prune_kernel(const ProblemOf<kRule> problem) {
    __shared__ alignas(128) unsigned char shared[sizeof(SharedOf<kRule>)];
    DeviceBlock block(shared);
    run_phases<T, kRule>(block, problem, [] { cooperative_groups::this_grid().sync(); });
}

template <Rule kRule>
const void* instance_of(DataType type) noexcept {
    using Kernel = void (*)(ProblemOf<kRule>);
    const Kernel kInstances[] = {prune_kernel<float, kRule>, prune_kernel<Half, kRule>,
                                 prune_kernel<BFloat16, kRule>};
    return reinterpret_cast<const void*>(kInstances[static_cast<std::size_t>(type)]);
}

}  // namespace

const void* kernel_of(Rule rule, DataType type) noexcept {
    switch (rule) {
        case Rule::kMaxMin:
            return instance_of<Rule::kMaxMin>(type);
        case Rule::kDpp:
            return instance_of<Rule::kDpp>(type);
        case Rule::kDeduplicate:
            return instance_of<Rule::kDeduplicate>(type);
        case Rule::kPositions:
            return instance_of<Rule::kPositions>(type);
        case Rule::kD2:
            break;
    }
    return instance_of<Rule::kD2>(type);
}

}  // namespace d2export::cuda
