#include "utf8.h"

#include <algorithm>

namespace d2export::runtime::utf8 {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

unsigned byte_at(std::string_view bytes, std::size_t at) {
    return static_cast<unsigned char>(bytes[at]);
}

bool continues(std::string_view bytes, std::size_t at) {
    return at < bytes.size() && (byte_at(bytes, at) & 0xC0) == 0x80;
}

std::size_t size_from(unsigned first) {
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first < 0xE0) return 2;
    if (first >= 0xE0 && first < 0xF0) return 3;
    return first >= 0xF0 && first < 0xF5 ? 4 : 0;
}

// Whether the second byte makes the shortest form of a character that is no surrogate.
bool second_fits(unsigned first, unsigned second) {
    if (first == 0xE0) return second >= 0xA0;
    if (first == 0xED) return second < 0xA0;
    if (first == 0xF0) return second >= 0x90;
    return first != 0xF4 || second < 0x90;
}

// How many bytes at `at` could begin a character, and whether they are a whole one.
struct Part {
    std::size_t size;
    bool whole;
};

Part part_at(std::string_view bytes, std::size_t at) {
    const unsigned first = byte_at(bytes, at);
    const std::size_t size = size_from(first);
    if (size <= 1) return {1, size == 1};
    if (!continues(bytes, at + 1) || !second_fits(first, byte_at(bytes, at + 1))) return {1, false};
    std::size_t found = 2;
    while (found < size && continues(bytes, at + found)) ++found;
    return {found, found == size};
}

}  // namespace

std::optional<std::size_t> fault(std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const Part part = part_at(bytes, at);
        if (!part.whole) return at;
        at += part.size;
    }
    return std::nullopt;
}

char32_t next(std::string_view text, std::size_t& at) {
    const unsigned first = byte_at(text, at++);
    if (first < 0x80) return first;
    char32_t character = first & (first < 0xE0 ? 0x1F : first < 0xF0 ? 0x0F : 0x07);
    while (continues(text, at)) character = character << 6 | (byte_at(text, at++) & 0x3F);
    return character;
}

void append(std::string& text, char32_t character) {
    const auto add = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (character < 0x80) {
        add(character);
        return;
    }
    if (character < 0x800) {
        add(0xC0 | character >> 6);
    } else {
        if (character < 0x10000) {
            add(0xE0 | character >> 12);
        } else {
            add(0xF0 | character >> 18);
            add(0x80 | (character >> 12 & 0x3F));
        }
        add(0x80 | (character >> 6 & 0x3F));
    }
    add(0x80 | (character & 0x3F));
}

std::string of(char32_t character) {
    std::string text;
    append(text, character);
    return text;
}

std::size_t length(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

void append_lossy(std::string& text, std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const Part part = part_at(bytes, at);
        text += part.whole ? bytes.substr(at, part.size) : kReplacement;
        at += part.size;
    }
}

}  // namespace d2export::runtime::utf8
