// D2PrunePositions on the CPU, on one thread: which positions of a prompt survive, exactly as
// docs/algorithm.md has it for several images.
//
// Reentrant, deterministic; no exception, no global state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "d2export/parameters.h"
#include "d2export/prompt.h"

namespace d2export {

// How many positions survive: T - V + n, n = kept_of(I, V).
std::int32_t surviving(const PromptShape& shape, const Budget& budget) noexcept;

// What is wrong with the values of visual_positions and image_lengths: the input, its values, what
// was expected. Empty if nothing. Allocates.
std::string fault(const PromptShape& shape, const PromptInputs& inputs);

// Bytes of scratch memory that select() needs: O(T + V + kept * C). None where all survive.
std::size_t scratch_bytes(const PromptShape& shape, const PositionsParameters& parameters) noexcept;

// Writes the surviving positions, ascending, to `positions` [T - V + n]. No row is copied.
//
// `parameters` have no fault(), nor have the inputs; the shape has no negative extent, V <= T and
// at least one head. `scratch` has scratch_bytes() bytes at any alignment. Does not allocate.
void select(const PromptShape& shape, const PromptInputs& inputs,
            const PositionsParameters& parameters, std::int32_t* positions, void* scratch) noexcept;

}  // namespace d2export
