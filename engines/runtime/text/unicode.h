// What the tokenizers package knows of each character: see scripts/unicode_table.py.
#pragma once

#include <string_view>

namespace d2export::runtime::unicode {

bool is_letter(char32_t c);     // \p{L} of a regular expression
bool is_number(char32_t c);     // \p{N}
bool is_space(char32_t c);      // \s
bool is_word_part(char32_t c);  // \w, as the ends of words are found

// Whether Python's str.strip removes it.
bool is_python_space(char32_t c);

// How marks behind a letter are ordered; 0 for what is no mark.
int combining_class(char32_t c);

// The canonical decomposition in full; empty for a character that is its own, and for Hangul.
std::u32string_view decomposition(char32_t c);

// The character that two make, or 0. Hangul is left out here, too.
char32_t composition(char32_t first, char32_t second);

}  // namespace d2export::runtime::unicode
