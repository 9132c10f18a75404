#include "unicode.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace d2export::runtime::unicode {
namespace {

struct Range {
    char32_t first, last;
};
struct Mark {
    char32_t first, last;
    int combining_class;
};
struct Decomposition {
    char32_t character;
    char32_t parts[4];  // the rest is 0
};
struct Pair {
    char32_t first, second, composed;
};

#include "unicode_table.inc"

// The range that holds `c`, or null.
template <typename Row, std::size_t size>
const Row* find(const Row (&rows)[size], char32_t c) {
    const Row* row =
        std::lower_bound(std::begin(rows), std::end(rows), c,
                         [](const Row& range, char32_t key) { return range.last < key; });
    return row != std::end(rows) && row->first <= c ? row : nullptr;
}

}  // namespace

bool is_letter(char32_t c) { return find(kLetters, c) != nullptr; }
bool is_number(char32_t c) { return find(kNumbers, c) != nullptr; }
bool is_space(char32_t c) { return find(kSpaces, c) != nullptr; }
bool is_word_part(char32_t c) { return find(kWordParts, c) != nullptr; }
bool is_python_space(char32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); }

int combining_class(char32_t c) {
    const Mark* mark = find(kMarks, c);
    return mark == nullptr ? 0 : mark->combining_class;
}

std::u32string_view decomposition(char32_t c) {
    const auto* row = std::lower_bound(
        std::begin(kDecompositions), std::end(kDecompositions), c,
        [](const Decomposition& one, char32_t key) { return one.character < key; });
    if (row == std::end(kDecompositions) || row->character != c) return {};
    const auto* end = std::find(std::begin(row->parts), std::end(row->parts), U'\0');
    return {row->parts, static_cast<std::size_t>(end - row->parts)};
}

char32_t composition(char32_t first, char32_t second) {
    const std::pair key{first, second};
    const auto* row = std::lower_bound(std::begin(kPairs), std::end(kPairs), key,
                                       [](const Pair& one, const auto& sought) {
                                           return std::pair{one.first, one.second} < sought;
                                       });
    const bool found = row != std::end(kPairs) && row->first == first && row->second == second;
    return found ? row->composed : U'\0';
}

}  // namespace d2export::runtime::unicode
