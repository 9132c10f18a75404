// From tokens to the text of an answer: the `decoder` of a tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "normalizers.h"

namespace d2export::runtime {

// Texts in a row, in memory that is used again and again.
struct Fragments {
    std::string bytes;
    std::vector<std::size_t> ends;

    void clear();
    void add(std::string_view fragment);
    void end_here() { ends.push_back(bytes.size()); }
    std::size_t size() const { return ends.size(); }
    std::string_view operator[](std::size_t i) const;
};

struct DecodeAlphabet {};  // of byte-level tokens
struct DecodeBytes {};     // tokens like <0x0A>, run by run
struct Fuse {};            // to one text
struct Strip {
    char32_t character;
    std::size_t start;  // so many at most
    std::size_t end;
};
struct DecodeSpaces {
    char32_t space;
    bool has_prefix;  // one before the first word, which is left out
};

using Decoder =
    std::vector<std::variant<DecodeAlphabet, DecodeBytes, Fuse, Strip, DecodeSpaces, Replace>>;

// `text` holds tokens, and then what to write; `spare` is room to work in.
void decode(Fragments& text, Fragments& spare, const Decoder& steps);

}  // namespace d2export::runtime
