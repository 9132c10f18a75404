// The ops on the CPU, on one thread: D2Prune (arXiv 2512.19443) exactly as docs/algorithm.md has
// it, the others as d2export/pruning/rules has them.
//
// Reentrant, deterministic; no allocation, no exception, no global state.
#pragma once

#include <cstddef>
#include <cstdint>

#include "d2export/parameters.h"
#include "d2export/rule_parameters.h"
#include "d2export/tensors.h"

namespace d2export {

// Bytes of scratch memory that select() needs. D2Prune: O(N + kept * C). MaxMinPrune: the
// directions of all tokens, 2 N C. DppPrune: those of the kept ones, and 8 N kept.
// DeduplicatePrune: the directions and 4 N N, N being without the tokens that importance alone
// picks.
std::size_t scratch_bytes(const Shape& shape, const Parameters& parameters) noexcept;
std::size_t scratch_bytes(const Shape& shape, const MaxMinParameters& parameters) noexcept;
std::size_t scratch_bytes(const Shape& shape, const DppParameters& parameters) noexcept;
std::size_t scratch_bytes(const Shape& shape, const DeduplicateParameters& parameters) noexcept;

// Writes the kept token ids of each picture, ascending, to `indices` [B, M], M = kept(N).
//
// `parameters` have no fault(), the shape no negative extent and at least one head.
// `inputs` that an op does not have may be null. `scratch` has scratch_bytes() bytes at any
// alignment.
void select(const Shape& shape, const Inputs& inputs, const Parameters& parameters,
            std::int32_t* indices, void* scratch) noexcept;
void select(const Shape& shape, const Inputs& inputs, const MaxMinParameters& parameters,
            std::int32_t* indices, void* scratch) noexcept;
void select(const Shape& shape, const Inputs& inputs, const DppParameters& parameters,
            std::int32_t* indices, void* scratch) noexcept;
void select(const Shape& shape, const Inputs& inputs, const DeduplicateParameters& parameters,
            std::int32_t* indices, void* scratch) noexcept;

// Copies the rows `indices` [B, M] of `features` [B, N, C] to `kept` [B, M, C].
void gather(const Shape& shape, const Inputs& inputs, std::int32_t kept_tokens,
            const std::int32_t* indices, void* kept) noexcept;

}  // namespace d2export
