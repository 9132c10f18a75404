// UTF-8, as the texts of this library are kept.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace d2export::runtime::utf8 {

// The place of the first byte that begins no character; none in a text that is UTF-8.
std::optional<std::size_t> fault(std::string_view bytes);

// The character at `at`, which moves behind it. The text is UTF-8.
char32_t next(std::string_view text, std::size_t& at);

void append(std::string& text, char32_t character);
std::string of(char32_t character);

// How many characters a text has.
std::size_t length(std::string_view text);

// Appends bytes, with U+FFFD for each longest beginning of a character that is none, as Unicode
// recommends and Rust's String::from_utf8_lossy does.
void append_lossy(std::string& text, std::string_view bytes);

}  // namespace d2export::runtime::utf8
