// Normalization form C of Unicode (UAX #15): letters and their marks as one character where there
// is one.
#pragma once

#include "aligned_text.h"

namespace d2export::runtime {

// A composed character comes from the first of its parts, as in the tokenizers package.
AlignedText compose(const AlignedText& text);

}  // namespace d2export::runtime
