// D2Prune's choice among the tokens of one picture.
#pragma once

#include <cstdint>

#include "d2export/parameters.h"
#include "unit_rows.h"
#include "walk.h"

namespace d2export {

// Tokens that a candidate may have to be compared with, at most, among so many: the members of the
// independent set, and the pivots where they block. 0 where all stay.
std::int32_t joining(std::int32_t tokens, const Parameters& parameters) noexcept;

// Sets stays[token], 0 before, for the tokens that stay, which are fewer than all.
//
// `keys` [N] are rules::rank_key of each token; it reorders them. `neighbourhood` is that of the
// picture's tokens, but for the diagonal, which is found here where it matters. `walk` has room for
// joining(N) tokens.
void choose(Neighbourhood neighbourhood, std::uint64_t* keys, std::int32_t tokens,
            const Parameters& parameters, Walk& walk, std::uint8_t* stays) noexcept;

}  // namespace d2export
