// The kernels as the host knows them: what CUDA takes to launch one, or to ask about it.
#pragma once

#include "problem.h"

namespace d2export::cuda {

// For an op and features of this type. Launched cooperatively with a Problem, or with a
// PromptProblem for D2PrunePositions, in blocks of kThreads threads.
const void* kernel_of(Rule rule, DataType type) noexcept;

}  // namespace d2export::cuda
