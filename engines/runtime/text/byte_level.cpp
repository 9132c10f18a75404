#include "byte_level.h"

#include <array>

namespace d2export::runtime {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;  // for bytes that cannot be seen, in their order
constexpr std::size_t kBytes = 256;
constexpr std::size_t kInvisible = 68;

constexpr bool is_visible(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
    std::array<char32_t, kBytes> characters{};
    std::array<unsigned, kInvisible> invisible{};
};

constexpr Alphabet made() {
    Alphabet alphabet;
    std::size_t next = 0;
    for (unsigned byte = 0; byte < kBytes; ++byte) {
        if (is_visible(byte)) {
            alphabet.characters[byte] = byte;
        } else {
            alphabet.characters[byte] = kFirstSubstitute + static_cast<char32_t>(next);
            alphabet.invisible[next++] = byte;
        }
    }
    return alphabet;
}

constexpr Alphabet kAlphabet = made();
static_assert(kAlphabet.characters[' '] == kAlphabetSpace);

}  // namespace

AlignedText to_alphabet(const AlignedText& text) {
    AlignedText out;
    for (std::size_t i = 0; i < text.bytes.size(); ++i) {
        out.append(kAlphabet.characters[static_cast<unsigned char>(text.bytes[i])], text.spans[i]);
    }
    return out;
}

std::optional<char> from_alphabet(char32_t character) {
    if (character < kFirstSubstitute) {
        const auto byte = static_cast<unsigned>(character);
        return is_visible(byte) ? std::optional(static_cast<char>(byte)) : std::nullopt;
    }
    const std::size_t at = character - kFirstSubstitute;
    return at < kInvisible ? std::optional(static_cast<char>(kAlphabet.invisible[at]))
                           : std::nullopt;
}

}  // namespace d2export::runtime
