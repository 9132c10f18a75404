// A regular expression, as tokenizers split texts with them: the part of Oniguruma's syntax that
// their files use, matched by backtracking, as Oniguruma does.
//
// Supported: literals, escapes of punctuation, \r \n \t \s \S \p{L} \p{N} \P{L} \P{N}, `.`, classes
// with ranges and ^, |, (...), (?:...), (?i:...) with ASCII letters, (?=...), (?!...), and ? * +
// {m,n}, each also with ? behind it. Any other expression is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace d2export::runtime {

// Why an expression is none that this library knows, or takes too long on a text.
class PatternFault : public std::runtime_error {
 public:
    using std::runtime_error::runtime_error;
};

// A set of characters.
struct CharacterSet {
    enum Kind : unsigned {
        kLetter = 1,
        kNotLetter = 2,
        kNumber = 4,
        kNotNumber = 8,
        kSpace = 16,
        kNotSpace = 32,
    };

    std::vector<std::pair<char32_t, char32_t>> ranges;  // first and last
    unsigned kinds = 0;
    bool negated = false;

    bool has(char32_t c) const;
};

class Pattern {
 public:
    // Throws a PatternFault.
    explicit Pattern(std::string_view expression);

    // Parts of a text in order, each a match or what lies between two, none of them empty. Calls
    // `part` with the place behind each. Throws a PatternFault after too many steps.
    template <typename Part>
    void split(std::string_view text, const Part& part) const {
        Search search{text, {}, steps_for(text)};
        std::size_t done = 0;
        for (std::size_t at = 0; at < text.size();) {
            const std::optional<std::size_t> end = match(search, 0, at);
            if (!end) {
                at = behind(text, at);
                continue;
            }
            if (at > done) part(at);
            part(*end);
            at = done = *end;
        }
        if (text.size() > done) part(text.size());
    }

    enum class Operation : std::uint8_t { kCharacter, kEither, kJump, kAhead, kNotAhead, kAccept };

    // kCharacter: one of set `a`. kEither: go on at `a`, or failing that at `b`. kJump: at `a`.
    // kAhead, kNotAhead: go on at `a` if what follows here, up to kAccept, does or does not match.
    struct Instruction {
        Operation operation;
        std::uint32_t a = 0;
        std::uint32_t b = 0;
    };

 private:
    struct Choice {
        std::uint32_t instruction;
        std::size_t at;
    };
    struct Search {
        std::string_view text;
        std::vector<Choice> open;  // ways not tried yet
        std::size_t steps_left;
    };

    static std::size_t steps_for(std::string_view text);
    static std::size_t behind(std::string_view text, std::size_t at);
    std::optional<std::size_t> match(Search& search, std::uint32_t from, std::size_t at) const;

    std::vector<Instruction> program_;
    std::vector<CharacterSet> sets_;
};

}  // namespace d2export::runtime
