// Any bytes as a tokenizer.json, as a piece of one, as a conversation, and as a text: refused with
// a reason, or tokens whose places lie within the text and that can be written again.
#include <d2export/error.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "conversation.h"
#include "tokenizer_file.h"
#include "utf8.h"

namespace {

using namespace d2export::runtime;

// Where the bytes go. The last one is a whole tokenizer, and the bytes are its text.
constexpr std::string_view kFrames[][2] = {
    {"", ""},
    {R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, )", "}"},
    {R"({"model": {"vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Split",
        "behavior": "Isolated", "pattern": {"Regex": ")",
     R"("}}})"},
    {R"({"model": {"merges": [["a", "b"]], )", "}}"},
    {R"({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 1, "content": ")",
     R"(", "single_word": true, "lstrip": true, "rstrip": true, "normalized": true,
        "special": false}]})"},
};
constexpr std::string_view kWhole = R"({
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "pre_tokenizer": {"type": "Split", "behavior": "Isolated",
        "pattern": {"Regex": "\\p{L}+|\\s+(?!\\S)|(?i:'s)|[^\\s\\p{L}]{1,3}"}},
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "added_tokens": [{"id": 8, "content": "<s>", "single_word": true, "lstrip": true,
        "rstrip": true, "normalized": false, "special": true}],
    "model": {"unk_token": "?", "byte_fallback": true, "fuse_unk": true,
        "vocab": {"?": 0, "a": 1, "b": 2, "ab": 3, "aba": 4, "<0xC3>": 5, "<0xA9>": 6, "\u2581": 7},
        "merges": [["a", "b"], ["ab", "a"]]}})";

void demand(bool holds) {
    if (!holds) std::abort();
}

void use(const Tokenization& tokens, std::string_view text) {
    if (utf8::fault(text)) return;
    const std::size_t characters = utf8::length(text);
    std::vector<std::int64_t> ids;
    for (const PlacedToken& token : tokens.encode(text)) {
        demand(token.span.end <= characters && token.span.start <= characters);
        demand(tokens.token(token.id) != nullptr);
        ids.push_back(token.id);
    }
    Fragments written, spare;
    tokens.decode(ids.data(), ids.size(), written, spare);
    demand(!utf8::fault(written.bytes));
}

template <typename Read>
void attempt(const Read& read) {
    try {
        read();
    } catch (const Error& error) {
        demand(!std::string_view(error.what()).empty());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Tokenization whole = read_tokenization(kWhole, "whole");
    if (size == 0) return 0;
    const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::size_t frame = data[0] % (std::size(kFrames) + 2);
    if (frame == std::size(kFrames)) {
        attempt([&] { use(whole, bytes); });
    } else if (frame > std::size(kFrames)) {
        attempt([&] { read_conversation(bytes, "conversation.json"); });
    } else {
        const std::string document =
            std::string(kFrames[frame][0]) + bytes + std::string(kFrames[frame][1]);
        attempt([&] { use(read_tokenization(document, "tokenizer.json"), "a b 12, abaab's  é"); });
    }
    return 0;
}
