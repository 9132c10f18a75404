// What is done to a text before it is split: the `normalizer` of a tokenizer.json.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "aligned_text.h"

namespace d2export::runtime {

struct ComposeCharacters {};  // NFC
struct Prepend {
    std::string prefix;  // before a text that is not empty
};
struct Replace {
    std::string pattern;  // not empty
    std::string content;
};

using Normalizer = std::vector<std::variant<ComposeCharacters, Prepend, Replace>>;

void normalize(AlignedText& text, const Normalizer& steps);

// The prefix comes from the first character of the text. The text is not empty.
void prepend(AlignedText& text, const std::string& prefix);

}  // namespace d2export::runtime
