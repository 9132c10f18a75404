#include <d2export/tokenizer.h>

#include <string_view>

#include "tokenizer_state.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

constexpr std::string_view kHalfACharacter = "\xef\xbf\xbd";  // what is no character, or not yet

bool is_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); }

// A token of sentencepiece's that is one byte of a character.
bool is_byte(const std::string* token) {
    return token != nullptr && token->size() == 6 && token->compare(0, 3, "<0x") == 0 &&
           is_digit((*token)[3]) && is_digit((*token)[4]) && token->back() == '>';
}

bool ends_with(const std::string& text, std::string_view end) {
    return text.size() >= end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

// A piece is what the text grows by, in the sight of the piece before: a decoder treats the first
// token of a text differently. Bytes that stand for a character without a token are decoded run by
// run, and one that fits no character spoils its whole run; so a piece never ends within a run.
struct TextStream::State {
    const Tokenization& tokens;
    std::vector<std::int64_t> ids;  // of the last piece, and all after it
    std::size_t said = 0;           // how many of them are the last piece
    Fragments text;
    Fragments spare;

    const std::string& decoded(const std::int64_t* first, std::size_t count) {
        tokens.decode(first, count, text, spare);
        return text.bytes;
    }

    void grown(std::string& piece) {
        const std::size_t known = utf8::length(decoded(ids.data(), said));
        const std::string& all = decoded(ids.data(), ids.size());
        std::size_t at = 0;
        for (std::size_t i = 0; i < known && at < all.size(); ++i) utf8::next(all, at);
        piece.assign(all, at, all.size() - at);
    }
};

TextStream::TextStream(const Tokenizer& tokenizer)
    : state_(new State{tokenizer.state_->tokens, {}, 0, {}, {}}) {}
TextStream::TextStream(TextStream&&) noexcept = default;
TextStream::~TextStream() = default;

void TextStream::put(std::int64_t token, std::string& piece) {
    State& state = *state_;
    piece.clear();
    state.ids.push_back(token);
    // Nor does a run end with a token that writes nothing: decoders skip it.
    if (is_byte(state.tokens.token(token)) || state.decoded(&token, 1).empty()) return;
    state.grown(piece);
    if (piece.empty() || ends_with(piece, kHalfACharacter)) {
        piece.clear();
        return;
    }
    state.ids.erase(state.ids.begin(), state.ids.begin() + static_cast<std::ptrdiff_t>(state.said));
    state.said = state.ids.size();
}

void TextStream::end(std::string& piece) { state_->grown(piece); }

}  // namespace d2export::runtime
