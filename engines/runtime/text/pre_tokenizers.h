// How a text becomes the words that the model sees one by one: the `pre_tokenizer` of a
// tokenizer.json.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "aligned_text.h"
#include "pattern.h"

namespace d2export::runtime {

struct SplitWords {
    Pattern pattern;  // matches, and what lies between them, are words
};
struct ByteLevel {
    bool space_first;     // a space goes before each word that has none
    bool splits = false;  // as GPT-2 does
};
struct Metaspace {
    enum class Prefix { kAlways, kFirst, kNever };  // kFirst: where the whole text begins

    std::string space;  // what stands for a space
    Prefix prefix;
    bool splits;  // before each space
};

using PreTokenizer = std::vector<std::variant<SplitWords, ByteLevel, Metaspace>>;

// Throws a PatternFault where a pattern takes too long.
std::vector<AlignedText> split(AlignedText text, const PreTokenizer& steps);

}  // namespace d2export::runtime
