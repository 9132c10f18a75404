// A tokenizer.json at work: text to tokens, and tokens to text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "added_tokens.h"
#include "byte_pairs.h"
#include "decoders.h"
#include "normalizers.h"
#include "pre_tokenizers.h"

namespace d2export::runtime {

// A token, and the characters of the text that it came from.
struct PlacedToken {
    TokenId id;
    Span span;
};

// How the places of tokens are corrected at the end: the ByteLevel part of a `post_processor`.
struct TrimmedSpans {
    bool spares_first_space;  // which was put there
};

struct Tokenization {
    Normalizer normalizer;
    AddedTokens added;
    PreTokenizer pre_tokenizer;
    BytePairs model;
    std::vector<TrimmedSpans> post_processor;
    std::optional<Decoder> decoder;  // without one, a space stands between tokens

    // Without the tokens that go before every text. Throws an Error where the text is too much.
    std::vector<PlacedToken> encode(std::string_view text) const;

    // The text of `count` ids becomes that of `text`, special tokens left out; `spare` is room to
    // work in.
    void decode(const std::int64_t* ids, std::size_t count, Fragments& text,
                Fragments& spare) const;

    std::optional<TokenId> id(std::string_view token) const;
    const std::string* token(std::int64_t id) const;
    TokenId largest_id() const;

 private:
    void encode_part(const TextPart& part, std::vector<PlacedToken>& tokens) const;
    void trim(PlacedToken& token, bool first, const TrimmedSpans& rule) const;
};

}  // namespace d2export::runtime
