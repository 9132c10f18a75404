// The kernels on the host: what kernel_of() returns there.
#pragma once

#include <cstdint>

#include "../../cuda/src/kernel.h"

namespace d2export::cuda {

// `problem` is a Problem, or a PromptProblem for D2PrunePositions.
using HostKernel = void (*)(const void* problem, std::int32_t blocks);

}  // namespace d2export::cuda
