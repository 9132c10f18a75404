// D2Prune on the CPU, on one thread: arXiv 2512.19443, exactly as docs/algorithm.md has it.
//
// Reentrant, deterministic; no allocation, no exception, no global state.
#pragma once

#include <cstddef>
#include <cstdint>

#include "d2export/parameters.h"
#include "d2export/tensors.h"

namespace d2export {

// Bytes of scratch memory that select() needs: O(N + kept * C).
std::size_t scratch_bytes(const Shape& shape, const Parameters& parameters) noexcept;

// Writes the kept token ids of each picture, ascending, to `indices` [B, M], M = kept(N).
//
// `parameters` have no fault(), the shape no negative extent and at least one head.
// `scratch` has scratch_bytes() bytes at any alignment.
void select(const Shape& shape, const Inputs& inputs, const Parameters& parameters,
            std::int32_t* indices, void* scratch) noexcept;

// Copies the rows `indices` [B, M] of `features` [B, N, C] to `kept` [B, M, C].
void gather(const Shape& shape, const Inputs& inputs, std::int32_t kept_tokens,
            const std::int32_t* indices, void* kept) noexcept;

}  // namespace d2export
