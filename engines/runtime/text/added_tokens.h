// Tokens that are found in a text before the model sees it: `added_tokens` of a tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "aligned_text.h"
#include "byte_pairs.h"
#include "normalizers.h"

namespace d2export::runtime {

struct AddedToken {
    TokenId id;
    std::string content;
    bool single_word;  // not within a longer word
    bool takes_left;   // spaces before it belong to it
    bool takes_right;  // spaces behind it belong to it
    bool normalized;   // found in the text as the normalizer leaves it
    bool special;      // no part of an answer's text
};

// A part of a text: a token that was found, or what is left to the model.
struct TextPart {
    AlignedText text;
    std::optional<TokenId> token;
};

class AddedTokens {
 public:
    AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

    // Parts of `text` in order; where two tokens begin at one place, the longer one is found.
    // `normalized` says which of the tokens are sought.
    void split(const AlignedText& text, bool normalized, std::vector<TextPart>& parts) const;

    const std::vector<AddedToken>& all() const { return tokens_; }
    // Null where none has this id, or this content.
    const AddedToken* find(std::int64_t id) const;
    const AddedToken* find(std::string_view content) const;
    // By content: a model's own token of the same name is special, too.
    bool is_special(const std::string& content) const { return special_.count(content) != 0; }

 private:
    struct Sought {
        std::string text;
        std::size_t token;  // place in tokens_
    };
    // By the first byte, the longest first.
    using Index = std::unordered_map<char, std::vector<Sought>>;

    const Sought* match(const std::string& text, std::size_t at, const Index& index) const;

    std::vector<AddedToken> tokens_;
    std::unordered_map<TokenId, std::size_t> by_id_;
    std::unordered_set<std::string> special_;
    Index as_given_;
    Index as_normalized_;
};

}  // namespace d2export::runtime
