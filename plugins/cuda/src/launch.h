// How all kernels are launched.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

namespace d2export::cuda {

// What a call of CUDA returned. An error is the caller's from here on; left behind as the thread's
// last error, it would seem to be that of the next launch, whose ever that is.
cudaError_t as_returned(cudaError_t status) noexcept;

// Where the arrays of a workspace start.
void* aligned(void* memory) noexcept;

// That something is too large: what was found, and what is allowed.
std::string excess(const std::string& found, std::int64_t limit);

// Enqueues a kernel of kernel_of() with its problem, in as many blocks as have work, or as fit.
cudaError_t launch(const void* kernel, std::int64_t useful, void* problem,
                   cudaStream_t stream) noexcept;

}  // namespace d2export::cuda
