// D2PrunePositions on the GPU, as cuda.h has the other ops: the caller's stream and memory, one
// kernel launch, whatever the lengths of the images, which only the device knows; deterministic;
// capturable in a CUDA graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "d2export/cuda.h"
#include "d2export/prompt.h"

namespace d2export::cuda {

// What this build cannot run: the extent, its value, its limit. Empty if it can.
std::string fault(const PromptShape& shape);

// Bytes of device memory that select_positions() works in. The same on every GPU, and never less
// for a larger shape; next to nothing where no token can have to go.
std::size_t workspace_bytes(const PromptShape& shape,
                            const PositionsParameters& parameters) noexcept;

// Enqueues the op: writes the surviving positions, ascending, to `positions` [surviving()]. All
// pointers are device memory; hidden_states are aligned to 16 bytes. All must live until the stream
// has passed. Where none of the tokens has to go, as in every decode step, the kernel does nothing
// but count.
//
// `parameters` have no fault(), nor has the shape. Values of visual_positions and image_lengths
// that have a fault lead to positions that mean nothing, but ascend and lie within the prompt;
// nothing is read or written outside the tensors. Returns what the launch returned, and takes that
// back from cudaGetLastError(); errors inside the kernel surface as CUDA errors do.
cudaError_t select_positions(const PromptShape& shape, const PromptInputs& inputs,
                             const PositionsParameters& parameters, std::int32_t* positions,
                             void* workspace, cudaStream_t stream) noexcept;

}  // namespace d2export::cuda
