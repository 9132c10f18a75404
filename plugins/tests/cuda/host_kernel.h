// The kernels on the host: what kernel_of() returns there.
#pragma once

#include <cstdint>

#include "../../cuda/src/kernel.h"

namespace d2export::cuda {

using HostKernel = void (*)(const Problem& problem, std::int32_t blocks);

}  // namespace d2export::cuda
