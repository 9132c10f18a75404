// The ops on the GPU: the caller's stream, the caller's memory, no host synchronisation, no
// allocation, one kernel launch; deterministic; capturable in a CUDA graph. sm_80 and later.
//
// `Attributes` says which op: Parameters, MaxMinParameters, DppParameters or DeduplicateParameters.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "d2export/cuda_limits.h"
#include "d2export/parameters.h"
#include "d2export/rule_parameters.h"
#include "d2export/tensors.h"

namespace d2export::cuda {

// What this build cannot run: the extent, its value, its limit. Empty if it can.
template <typename Attributes = Parameters>
std::string fault(const Shape& shape);

// Bytes of device memory that prune() works in. The same on every GPU, and never less for a
// larger shape. All ops but D2Prune hold the cosines of all pairs of tokens.
template <typename Attributes>
std::size_t workspace_bytes(const Shape& shape, const Attributes& attributes) noexcept;

// Loads the kernel for features of this type onto the current GPU, which CUDA may otherwise put off
// until the first launch. Not everything that loading does is allowed while a stream is captured:
// call it before a first launch that is. Returns why it cannot be loaded, if so.
template <typename Attributes = Parameters>
cudaError_t prepare(DataType type) noexcept;

// Enqueues the op. All pointers are device memory; features and kept are aligned to 16 bytes. All
// must live until the stream has passed.
//
// kept: [B, M, C] of inputs.type; indices: [B, M] int32, ascending.
// Inputs that an op does not have may be null. `attributes` have no fault(), nor has the shape.
// Returns what the launch returned, and takes that back from cudaGetLastError(); errors inside the
// kernel surface as CUDA errors do.
template <typename Attributes>
cudaError_t prune(const Shape& shape, const Inputs& inputs, const Attributes& attributes,
                  void* kept, std::int32_t* indices, void* workspace, cudaStream_t stream) noexcept;

}  // namespace d2export::cuda
