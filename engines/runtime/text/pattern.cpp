#include "pattern.h"

#include <algorithm>

#include "pattern_parser.h"
#include "unicode.h"
#include "utf8.h"

namespace d2export::runtime {
namespace {

// A usual expression takes ten to thirty steps a byte.
constexpr std::size_t kStepsPerByte = 2000;
constexpr std::size_t kStepsBesides = 1'000'000;

bool has_kind(unsigned kinds, char32_t c) {
    const auto either = [&](unsigned yes, unsigned no, bool (*is)(char32_t)) {
        return (kinds & (yes | no)) != 0 && (kinds & (is(c) ? yes : no)) != 0;
    };
    return either(CharacterSet::kLetter, CharacterSet::kNotLetter, unicode::is_letter) ||
           either(CharacterSet::kNumber, CharacterSet::kNotNumber, unicode::is_number) ||
           either(CharacterSet::kSpace, CharacterSet::kNotSpace, unicode::is_space);
}

}  // namespace

bool CharacterSet::has(char32_t c) const {
    const bool found =
        std::any_of(ranges.begin(), ranges.end(),
                    [&](const auto& range) { return range.first <= c && c <= range.second; }) ||
        (kinds != 0 && has_kind(kinds, c));
    return found != negated;
}

Pattern::Pattern(std::string_view expression) {
    PatternParser parser(expression);
    program_ = parser.take_program();
    sets_ = parser.take_sets();
}

std::size_t Pattern::steps_for(std::string_view text) {
    return text.size() * kStepsPerByte + kStepsBesides;
}

std::size_t Pattern::behind(std::string_view text, std::size_t at) {
    utf8::next(text, at);
    return at;
}

// Where a match from `at` ends that begins with instruction `from`.
std::optional<std::size_t> Pattern::match(Search& search, std::uint32_t from,
                                          std::size_t at) const {
    const std::size_t outer = search.open.size();  // of the expression around a look ahead
    std::uint32_t next = from;
    const auto fail = [&] {
        if (search.open.size() == outer) return false;
        next = search.open.back().instruction;
        at = search.open.back().at;
        search.open.pop_back();
        return true;
    };
    for (;;) {
        if (search.steps_left-- == 0) throw PatternFault("takes too long on this text");
        const Instruction& instruction = program_[next++];
        bool succeeded = true;
        switch (instruction.operation) {
            case Operation::kCharacter: {
                std::size_t end = at;
                succeeded = at < search.text.size() &&
                            sets_[instruction.a].has(utf8::next(search.text, end));
                if (succeeded) at = end;
                break;
            }
            case Operation::kEither:
                search.open.push_back({instruction.b, at});
                next = instruction.a;
                break;
            case Operation::kJump:
                next = instruction.a;
                break;
            case Operation::kAhead:
            case Operation::kNotAhead: {
                const bool found = match(search, next, at).has_value();
                succeeded = found == (instruction.operation == Operation::kAhead);
                next = instruction.a;
                break;
            }
            case Operation::kAccept:
                search.open.resize(outer);
                return at;
        }
        if (!succeeded && !fail()) return std::nullopt;
    }
}

}  // namespace d2export::runtime
