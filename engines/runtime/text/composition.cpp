#include "composition.h"

#include <algorithm>

#include "unicode.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

// Hangul by arithmetic: chapter 3.12 of the Unicode standard.
constexpr char32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11A7;
constexpr char32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr char32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

struct Part {
    char32_t character;
    int combining_class;
    // How far the characters it stands for are ahead of those it is made of: what comes out of one
    // character as its second or third part counts 1, what swallows one counts 1 less.
    int change;
};

bool within(char32_t c, char32_t first, char32_t count) { return c >= first && c - first < count; }

void decompose(char32_t c, std::vector<Part>& parts) {
    std::size_t count = 0;
    const auto add = [&](char32_t part) {
        parts.push_back({part, unicode::combining_class(part), count++ == 0 ? 0 : 1});
    };
    if (within(c, kSyllables, kSyllableCount)) {
        const char32_t at = c - kSyllables;
        add(kLeading + at / (kVowelCount * kTrailingCount));
        add(kVowels + at / kTrailingCount % kVowelCount);
        if (at % kTrailingCount != 0) add(kTrailing + at % kTrailingCount);
        return;
    }
    const std::u32string_view whole = unicode::decomposition(c);
    if (whole.empty()) add(c);
    for (const char32_t part : whole) add(part);
}

// Marks behind a starter, lower classes first.
void order(std::vector<Part>& parts) {
    const auto is_mark = [](const Part& part) { return part.combining_class != 0; };
    for (auto at = parts.begin(); at != parts.end();) {
        const auto first = std::find_if(at, parts.end(), is_mark);
        at = std::find_if_not(first, parts.end(), is_mark);
        std::stable_sort(first, at, [](const Part& a, const Part& b) {
            return a.combining_class < b.combining_class;
        });
    }
}

char32_t composed(char32_t first, char32_t second) {
    if (within(first, kLeading, kLeadingCount) && within(second, kVowels, kVowelCount)) {
        return kSyllables + ((first - kLeading) * kVowelCount + second - kVowels) * kTrailingCount;
    }
    if (within(first, kSyllables, kSyllableCount) && (first - kSyllables) % kTrailingCount == 0 &&
        within(second, kTrailing + 1, kTrailingCount - 1)) {
        return first + second - kTrailing;
    }
    return unicode::composition(first, second);
}

// Joins parts in place. One joins the last starter unless another of at least its class, or any
// starter, stands between them.
void join(std::vector<Part>& parts) {
    std::size_t size = 0;
    std::size_t starter = 0;
    bool has_starter = false;
    for (const Part part : parts) {
        const bool adjacent = has_starter && starter + 1 == size;
        const bool blocked =
            !has_starter || (!adjacent && parts[size - 1].combining_class >= part.combining_class);
        const char32_t whole = blocked ? 0 : composed(parts[starter].character, part.character);
        if (whole != 0) {
            parts[starter].character = whole;
            parts[starter].change += part.change - 1;
            continue;
        }
        if (part.combining_class == 0) {
            starter = size;
            has_starter = true;
        }
        parts[size++] = part;
    }
    parts.resize(size);
}

// The spans of a text's characters, which parts take from one after the other.
AlignedText with_spans(const AlignedText& text, const std::vector<Part>& parts) {
    std::vector<Span> characters;
    for (std::size_t at = 0; at < text.bytes.size();) {
        characters.push_back(text.spans[at]);
        utf8::next(text.bytes, at);
    }
    AlignedText out;
    std::size_t at = 0;
    for (const Part& part : parts) {
        if (part.change > 0) {
            out.append(part.character, at == 0 ? Span{0, 0} : characters[at - 1]);
        } else {
            out.append(part.character, characters[at]);
            at += static_cast<std::size_t>(1 - part.change);
        }
    }
    return out;
}

}  // namespace

AlignedText compose(const AlignedText& text) {
    std::vector<Part> parts;
    bool plain = true;
    for (std::size_t at = 0; at < text.bytes.size();) {
        const char32_t c = utf8::next(text.bytes, at);
        plain = plain && c < 0x300;  // where no mark and nothing that decomposes otherwise lies
        decompose(c, parts);
    }
    if (plain) return text;
    order(parts);
    join(parts);
    return with_spans(text, parts);
}

}  // namespace d2export::runtime
