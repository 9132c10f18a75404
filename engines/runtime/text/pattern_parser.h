// From a regular expression to the instructions that match it.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "pattern.h"

namespace d2export::runtime {

// Throws a PatternFault for an expression outside of what pattern.h names, and for one that could
// match nothing.
class PatternParser {
 public:
    explicit PatternParser(std::string_view expression);

    std::vector<Pattern::Instruction> take_program() { return std::move(program_); }
    std::vector<CharacterSet> take_sets() { return std::move(sets_); }

 private:
    using Operation = Pattern::Operation;

    // Where the instructions of a part begin in the program, and the least number of characters it
    // matches.
    struct Part {
        std::size_t begin;
        std::size_t least;
    };
    struct Times {
        std::size_t least;
        std::size_t most;
        bool lazy;
    };

    Part alternatives(int depth);
    Part sequence(int depth);
    Part atom(int depth);
    Part group(int depth);
    Part look_ahead(Operation operation, int depth);
    Part set(CharacterSet found);
    void repeat(Part& part, const Times& times);

    CharacterSet character_class();
    char32_t class_member(CharacterSet& found);
    CharacterSet escape();
    unsigned property(bool negated);
    bool times(Times& found);
    std::size_t number();

    bool done() const { return at_ == expression_.size(); }
    bool ahead(std::string_view text) const { return expression_.substr(at_, text.size()) == text; }
    bool take(std::string_view text);
    char32_t character();
    std::uint32_t here() const { return static_cast<std::uint32_t>(program_.size()); }
    void insert(std::size_t at, Pattern::Instruction instruction);
    void append(Pattern::Instruction instruction);
    [[noreturn]] void refuse(const std::string& why) const;

    std::string_view expression_;
    std::size_t at_ = 0;
    bool any_case_ = false;
    std::vector<Pattern::Instruction> program_;
    std::vector<CharacterSet> sets_;
};

}  // namespace d2export::runtime
