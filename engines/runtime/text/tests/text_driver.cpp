// The tokenizer for ctypes. Calls that can fail return true, or false with the reason in `why`,
// which has room for kReason bytes. Lists and texts are copied as far as there is room; their whole
// length is returned.
#include <d2export/error.h>
#include <d2export/tokenizer.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tokenizer_file.h"
#include "unicode.h"

namespace {

using namespace d2export::runtime;

constexpr std::size_t kReason = 1000;

template <typename Call>
bool attempt(char* why, const Call& call) {
    try {
        call();
        return true;
    } catch (const Error& error) {
        std::snprintf(why, kReason, "%s\n%s", error.what(), error.hint());
        return false;
    }
}

struct List {
    std::int64_t* values;
    std::int64_t room;
    std::int64_t length;
};

void fill(List& list, const std::vector<std::int64_t>& values) {
    list.length = static_cast<std::int64_t>(values.size());
    std::copy_n(values.begin(), std::min(list.room, list.length), list.values);
}

std::size_t copy_text(const std::string& text, char* out, std::size_t room) {
    std::memcpy(out, text.data(), std::min(room, text.size()));
    return text.size();
}

}  // namespace

extern "C" {

// A tokenizer.json by itself.
D2EXPORT_API void* tokenization_read(const char* document, std::size_t size, char* why) {
    void* tokens = nullptr;
    attempt(why, [&] {
        tokens = new Tokenization(read_tokenization({document, size}, "tokenizer.json"));
    });
    return tokens;
}

D2EXPORT_API void tokenization_close(void* tokens) { delete static_cast<Tokenization*>(tokens); }

// Ids, and the first character and the end of what each came from.
D2EXPORT_API bool tokenization_encode(const void* tokens, const char* text, std::size_t size,
                                      List* ids, List* starts, List* ends, char* why) {
    return attempt(why, [&] {
        std::vector<std::int64_t> columns[3];
        for (const PlacedToken& token :
             static_cast<const Tokenization*>(tokens)->encode({text, size})) {
            columns[0].push_back(token.id);
            columns[1].push_back(token.span.start);
            columns[2].push_back(token.span.end);
        }
        List* const lists[] = {ids, starts, ends};
        for (std::size_t i = 0; i < 3; ++i) fill(*lists[i], columns[i]);
    });
}

D2EXPORT_API std::size_t tokenization_decode(const void* tokens, const std::int64_t* ids,
                                             std::size_t count, char* out, std::size_t room) {
    Fragments text, spare;
    static_cast<const Tokenization*>(tokens)->decode(ids, count, text, spare);
    return copy_text(text.bytes, out, room);
}

// A bundle's tokenizer, through <d2export/tokenizer.h>.
D2EXPORT_API void* tokenizer_open(const char* folder, std::int64_t vocab, char* why) {
    void* tokenizer = nullptr;
    attempt(why, [&] { tokenizer = new Tokenizer(folder, vocab); });
    return tokenizer;
}

D2EXPORT_API void tokenizer_close(void* tokenizer) { delete static_cast<Tokenizer*>(tokenizer); }

// `system` is null where the conversation's own holds.
D2EXPORT_API bool tokenizer_encode(const void* tokenizer, const char* prompt,
                                   const std::int64_t* image_lengths, std::size_t images,
                                   const char* system, List* ids, List* visual, List* text,
                                   char* why) {
    return attempt(why, [&] {
        const Encoded encoded = static_cast<const Tokenizer*>(tokenizer)->encode(
            prompt, {image_lengths, image_lengths + images},
            system == nullptr ? std::nullopt : std::optional<std::string>(system));
        fill(*ids, encoded.input_ids);
        fill(*visual, encoded.visual_positions);
        fill(*text, encoded.text_positions);
    });
}

D2EXPORT_API bool tokenizer_is_stop(const void* tokenizer, std::int64_t id) {
    return static_cast<const Tokenizer*>(tokenizer)->is_stop(id);
}

D2EXPORT_API void* stream_open(const void* tokenizer) {
    return new TextStream(*static_cast<const Tokenizer*>(tokenizer));
}

D2EXPORT_API void stream_close(void* stream) { delete static_cast<TextStream*>(stream); }

// A negative token ends the answer.
D2EXPORT_API std::size_t stream_put(void* stream, std::int64_t token, char* out, std::size_t room) {
    std::string piece;
    if (token < 0) {
        static_cast<TextStream*>(stream)->end(piece);
    } else {
        static_cast<TextStream*>(stream)->put(token, piece);
    }
    return copy_text(piece, out, room);
}

// Letter 1, number 2, space 4, part of a word 8.
D2EXPORT_API void unicode_kinds(std::uint8_t* kinds, std::uint32_t count) {
    for (std::uint32_t c = 0; c < count; ++c) {
        kinds[c] =
            static_cast<std::uint8_t>(unicode::is_letter(c) * 1 + unicode::is_number(c) * 2 +
                                      unicode::is_space(c) * 4 + unicode::is_word_part(c) * 8);
    }
}

}  // extern "C"
