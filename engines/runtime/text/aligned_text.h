// A text on its way to the model, which still knows where each of its bytes came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace d2export::runtime {

// Characters of the text as it was given.
struct Span {
    std::uint32_t start;
    std::uint32_t end;
};

struct AlignedText {
    std::string bytes;        // UTF-8
    std::vector<Span> spans;  // of each byte

    // A part of a text, whose first character is number `start` there.
    static AlignedText of(std::string_view text, std::size_t start);

    // A character that came from `span`.
    void append(char32_t character, Span span);

    AlignedText slice(std::size_t begin, std::size_t end) const;

    // What the bytes from `begin` to `end` came from; `end` is above `begin`.
    Span span(std::size_t begin, std::size_t end) const {
        return {spans[begin].start, spans[end - 1].end};
    }
};

}  // namespace d2export::runtime
