// GPT-2's alphabet: each byte of a text as a character that can be seen.
#pragma once

#include <optional>

#include "aligned_text.h"

namespace d2export::runtime {

// The text with a character for each of its bytes.
AlignedText to_alphabet(const AlignedText& text);

// The byte a character stands for, if it is one of the alphabet.
std::optional<char> from_alphabet(char32_t character);

// The character of a space.
constexpr char32_t kAlphabetSpace = 0x120;

}  // namespace d2export::runtime
