#include "tokenization.h"

#include <d2export/error.h>

#include <algorithm>

#include "byte_level.h"
#include "unicode.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

// Far beyond any context; offsets stay far below 2^32.
constexpr std::size_t kMaxBytes = 64u << 20;

bool is_space(char32_t c) { return c == kAlphabetSpace || unicode::is_space(c); }

}  // namespace

std::vector<PlacedToken> Tokenization::encode(std::string_view text) const {
    if (text.size() > kMaxBytes) {
        throw bad_input("the text has " + std::to_string(text.size()) +
                            " bytes, expected at most " + std::to_string(kMaxBytes),
                        "Shorten it.");
    }
    std::vector<TextPart> as_given, parts;
    added.split(AlignedText::of(text, 0), false, as_given);
    for (TextPart& part : as_given) {
        if (part.token) {
            parts.push_back(std::move(part));
        } else {
            normalize(part.text, normalizer);
            added.split(part.text, true, parts);
        }
    }
    std::vector<PlacedToken> tokens;
    try {
        for (const TextPart& part : parts) encode_part(part, tokens);
    } catch (const PatternFault& fault) {
        throw bad_input(std::string("the tokenizer's pattern ") + fault.what(),
                        "Use a shorter text.");
    }
    for (const TrimmedSpans& rule : post_processor) {
        for (std::size_t i = 0; i < tokens.size(); ++i) trim(tokens[i], i == 0, rule);
    }
    return tokens;
}

void Tokenization::encode_part(const TextPart& part, std::vector<PlacedToken>& tokens) const {
    if (part.token) {
        tokens.push_back({*part.token, part.text.span(0, part.text.bytes.size())});
        return;
    }
    for (const AlignedText& word : split(part.text, pre_tokenizer)) {
        std::size_t at = 0;
        for (const BytePairs::Token& token : model.tokens(word.bytes)) {
            tokens.push_back({token.id, word.span(at, at + token.size)});
            at += token.size;
        }
    }
}

// Spaces at either end of a token count as outside of it.
void Tokenization::trim(PlacedToken& placed, bool first, const TrimmedSpans& rule) const {
    const std::string* text = token(placed.id);
    if (text == nullptr) return;
    std::uint32_t leading = 0, trailing = 0;
    bool all_spaces = true;
    for (std::size_t at = 0; at < text->size();) {
        const bool space = is_space(utf8::next(*text, at));
        all_spaces = all_spaces && space;
        leading += all_spaces ? 1 : 0;
        trailing = space ? trailing + 1 : 0;
    }
    Span& span = placed.span;
    if (leading > 0 && (first || span.start == 0) && rule.spares_first_space) --leading;
    span.start = std::min(span.start + leading, span.end);
    if (trailing > 0 && span.end >= trailing) span.end = std::max(span.end - trailing, span.start);
}

void Tokenization::decode(const std::int64_t* ids, std::size_t count, Fragments& text,
                          Fragments& spare) const {
    text.clear();
    for (std::size_t i = 0; i < count; ++i) {
        const std::string* found = token(ids[i]);
        if (found == nullptr || added.is_special(*found)) continue;
        if (!decoder && text.size() > 0) text.bytes += ' ';
        text.add(*found);
    }
    if (decoder) runtime::decode(text, spare, *decoder);
}

std::optional<TokenId> Tokenization::id(std::string_view token) const {
    const AddedToken* found = added.find(token);
    return found != nullptr ? std::optional(found->id) : model.id(token);
}

const std::string* Tokenization::token(std::int64_t id) const {
    const AddedToken* found = added.find(id);
    return found != nullptr ? &found->content : model.token(id);
}

TokenId Tokenization::largest_id() const {
    TokenId largest = model.largest();
    for (const AddedToken& token : added.all()) largest = std::max(largest, token.id);
    return largest;
}

}  // namespace d2export::runtime
