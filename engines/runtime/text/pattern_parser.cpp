#include "pattern_parser.h"

#include <algorithm>
#include <limits>

#include "utf8.h"

namespace d2export::runtime {
namespace {

constexpr int kMaxDepth = 50;
constexpr std::size_t kMaxInstructions = 20'000;
constexpr std::size_t kMaxTimes = 1000;
constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

// Characters whose only other case is an ASCII letter: the long s, and Kelvin's sign.
constexpr std::pair<char32_t, char32_t> kFolded[] = {{U's', 0x17F}, {U'k', 0x212A}};

bool is_ascii_letter(char32_t c) { return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z'); }

bool is_punctuation(char32_t c) {
    return c < 0x80 && c > 0x20 && !is_ascii_letter(c) && !(c >= U'0' && c <= U'9');
}

void add_cases(CharacterSet& set) {
    const CharacterSet plain = set;
    for (char32_t lower = U'a'; lower <= U'z'; ++lower) {
        const char32_t upper = lower - 0x20;
        const auto within = [&](char32_t c) {
            return std::any_of(plain.ranges.begin(), plain.ranges.end(), [&](const auto& range) {
                return range.first <= c && c <= range.second;
            });
        };
        if (!within(lower) && !within(upper)) continue;
        set.ranges.push_back({lower, lower});
        set.ranges.push_back({upper, upper});
        for (const auto& [letter, other] : kFolded) {
            if (letter == lower) set.ranges.push_back({other, other});
        }
    }
}

}  // namespace

PatternParser::PatternParser(std::string_view expression) : expression_(expression) {
    const Part whole = alternatives(0);
    if (!done()) refuse("has a ')' too many");
    if (whole.least == 0) refuse("can match nothing");
    append({Operation::kAccept});
}

PatternParser::Part PatternParser::alternatives(int depth) {
    if (depth > kMaxDepth) refuse("is nested too deep");
    Part all = sequence(depth);
    if (!take("|")) return all;
    // either: this one, and a jump behind all; or the rest
    insert(all.begin, {Operation::kEither, 0, 0});
    const std::size_t jump = here();
    append({Operation::kJump});
    program_[all.begin].a = static_cast<std::uint32_t>(all.begin + 1);
    program_[all.begin].b = here();
    all.least = std::min(all.least, alternatives(depth + 1).least);
    program_[jump].a = here();
    return all;
}

PatternParser::Part PatternParser::sequence(int depth) {
    Part all{here(), 0};
    while (!done() && !ahead("|") && !ahead(")")) {
        Part part = atom(depth);
        Times found{1, 1, false};
        if (times(found)) repeat(part, found);
        if (Times again{}; times(again)) refuse("has two repetitions behind each other");
        all.least += part.least;
    }
    return all;
}

PatternParser::Part PatternParser::atom(int depth) {
    if (take("(")) return group(depth);
    if (take("[")) return set(character_class());
    if (take(".")) return set({{{U'\n', U'\n'}}, 0, true});
    if (take("\\")) return set(escape());
    for (const char* special : {"*", "+", "?", "{", "^", "$"}) {
        if (ahead(special)) refuse(std::string("has a '") + special + "' that is not supported");
    }
    const char32_t literal = character();
    return set({{{literal, literal}}, 0, false});
}

PatternParser::Part PatternParser::group(int depth) {
    if (take("?=")) return look_ahead(Operation::kAhead, depth);
    if (take("?!")) return look_ahead(Operation::kNotAhead, depth);
    const bool outside = any_case_;
    if (take("?i:")) {
        any_case_ = true;
    } else if (!take("?:") && ahead("?")) {
        refuse("has a group that is not supported");
    }
    const Part inside = alternatives(depth + 1);
    any_case_ = outside;
    if (!take(")")) refuse("lacks a ')'");
    return inside;
}

PatternParser::Part PatternParser::look_ahead(Operation operation, int depth) {
    const Part all{here(), 0};
    append({operation});
    alternatives(depth + 1);
    if (!take(")")) refuse("lacks a ')'");
    append({Operation::kAccept});
    program_[all.begin].a = here();
    return all;
}

PatternParser::Part PatternParser::set(CharacterSet found) {
    if (any_case_) {
        for (const auto& range : found.ranges) {
            if (range.second > 0x7F) refuse("has a letter beyond ASCII in '(?i:'");
        }
        add_cases(found);
    }
    const Part all{here(), 1};
    append({Operation::kCharacter, static_cast<std::uint32_t>(sets_.size())});
    sets_.push_back(std::move(found));
    return all;
}

// The part, which is the last of the program, so many times.
void PatternParser::repeat(Part& part, const Times& times) {
    if (part.least == 0) refuse("repeats what can match nothing");
    const std::vector<Pattern::Instruction> once(
        program_.begin() + static_cast<std::ptrdiff_t>(part.begin), program_.end());
    program_.resize(part.begin);
    const auto again = [&] {
        const auto shift = here() - static_cast<std::uint32_t>(part.begin);
        for (Pattern::Instruction instruction : once) {
            if (instruction.operation != Operation::kCharacter) instruction.a += shift;
            instruction.b += shift;
            append(instruction);
        }
    };
    // A way into the part and a way around it, in the order they are tried.
    const auto choose = [&](std::size_t at, std::uint32_t inside, std::uint32_t behind) {
        program_[at].a = times.lazy ? behind : inside;
        program_[at].b = times.lazy ? inside : behind;
    };
    for (std::size_t i = 0; i < times.least; ++i) again();
    if (times.most == kNoLimit) {
        const std::uint32_t choice = here();
        append({Operation::kEither});
        again();
        append({Operation::kJump, choice});
        choose(choice, choice + 1, here());
    } else {
        std::vector<std::uint32_t> choices;
        for (std::size_t i = times.least; i < times.most; ++i) {
            choices.push_back(here());
            append({Operation::kEither});
            again();
        }
        for (const std::uint32_t choice : choices) choose(choice, choice + 1, here());
    }
    part.least *= times.least;
}

bool PatternParser::times(Times& found) {
    if (take("*")) {
        found = {0, kNoLimit, false};
    } else if (take("+")) {
        found = {1, kNoLimit, false};
    } else if (take("?")) {
        found = {0, 1, false};
    } else if (take("{")) {
        found.least = ahead(",") && !ahead(",}") ? 0 : number();
        found.most = found.least;
        const bool exact = !take(",");
        if (!exact) found.most = ahead("}") ? kNoLimit : number();
        if (!take("}") || found.most < found.least) refuse("has a '{' that is not supported");
        if (exact && ahead("?")) refuse("has a '?' behind '{n}', which is not supported");
    } else {
        return false;
    }
    found.lazy = take("?");
    if (ahead("+")) refuse("has a '+' behind a repetition, which is not supported");
    return true;
}

std::size_t PatternParser::number() {
    std::size_t value = 0;
    const std::size_t begin = at_;
    while (!done() && expression_[at_] >= '0' && expression_[at_] <= '9' && value <= kMaxTimes) {
        value = value * 10 + static_cast<std::size_t>(expression_[at_++] - '0');
    }
    if (at_ == begin || value > kMaxTimes) refuse("has a '{' that is not supported");
    return value;
}

CharacterSet PatternParser::character_class() {
    CharacterSet found;
    found.negated = take("^");
    bool empty = true;
    while (!take("]")) {
        if (done()) refuse("lacks a ']'");
        if (ahead("[") || ahead("&&")) {
            refuse("has a class within a class, which is not supported");
        }
        empty = false;
        const unsigned kinds = found.kinds;
        const char32_t first = class_member(found);
        if (found.kinds != kinds || first == 0) continue;
        char32_t last = first;
        if (ahead("-") && !ahead("-]")) {
            take("-");
            last = ahead("[") ? 0 : class_member(found);
            if (found.kinds != kinds || last < first) refuse("has a range that is none");
        }
        found.ranges.push_back({first, last});
    }
    if (empty) refuse("has an empty class");
    return found;
}

// A character of a class, or 0 where a kind of characters was added to `found`.
char32_t PatternParser::class_member(CharacterSet& found) {
    if (!take("\\")) return character();
    const CharacterSet escaped = escape();
    found.kinds |= escaped.kinds;
    return escaped.ranges.empty() ? U'\0' : escaped.ranges.front().first;
}

CharacterSet PatternParser::escape() {
    constexpr std::pair<char, char32_t> controls[] = {{'r', U'\r'}, {'n', U'\n'}, {'t', U'\t'}};
    if (done()) refuse("ends with a backslash");
    if (take("s")) return {{}, CharacterSet::kSpace, false};
    if (take("S")) return {{}, CharacterSet::kNotSpace, false};
    if (take("p")) return {{}, property(false), false};
    if (take("P")) return {{}, property(true), false};
    for (const auto& [letter, control] : controls) {
        if (take({&letter, 1})) return {{{control, control}}, 0, false};
    }
    const char32_t c = character();
    if (!is_punctuation(c)) refuse("has the escape \\" + utf8::of(c) + ", which is not supported");
    return {{{c, c}}, 0, false};
}

unsigned PatternParser::property(bool negated) {
    if (take("{L}")) return negated ? CharacterSet::kNotLetter : CharacterSet::kLetter;
    if (take("{N}")) return negated ? CharacterSet::kNotNumber : CharacterSet::kNumber;
    refuse("has a property other than \\p{L} and \\p{N}");
}

bool PatternParser::take(std::string_view text) {
    if (!ahead(text)) return false;
    at_ += text.size();
    return true;
}

char32_t PatternParser::character() {
    if (done()) refuse("ends too early");
    const char32_t c = utf8::next(expression_, at_);
    if (c == 0) refuse("has a NUL");
    return c;
}

// Before what stands at `at`, whose targets move with it.
void PatternParser::insert(std::size_t at, Pattern::Instruction instruction) {
    for (std::size_t i = at; i < program_.size(); ++i) {
        if (program_[i].operation == Operation::kCharacter) continue;
        ++program_[i].a;
        ++program_[i].b;
    }
    program_.insert(program_.begin() + static_cast<std::ptrdiff_t>(at), instruction);
}

void PatternParser::append(Pattern::Instruction instruction) {
    if (program_.size() == kMaxInstructions) refuse("is too long");
    program_.push_back(instruction);
}

void PatternParser::refuse(const std::string& why) const { throw PatternFault(why); }

}  // namespace d2export::runtime
