// The kernel as the host knows it: what CUDA takes to launch it, or to ask about it.
#pragma once

#include "d2export/tensors.h"

namespace d2export::cuda {

// For features of this type. Launched cooperatively with a Problem, in blocks of kThreads threads.
const void* kernel_of(DataType type) noexcept;

}  // namespace d2export::cuda
