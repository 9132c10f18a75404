// The most likely token.
#pragma once

#include <d2export/backend.h>

#include <cstdint>

namespace d2export::runtime {

// The place of the largest logit, of equal ones the first; -1 if there is none, because some are
// NaN or the largest is infinite.
std::int64_t most_likely(const Span<float>& logits);

}  // namespace d2export::runtime
