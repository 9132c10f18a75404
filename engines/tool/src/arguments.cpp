#include "arguments.h"

#include <algorithm>
#include <charconv>

#include "failure.h"

namespace d2export::tool {

std::string Command::usage() const {
    std::string text = "usage: d2export-engine " + name;
    for (const std::string& positional : positionals) text += " " + positional;
    for (const Option& option : options) {
        const std::string shown = option.name + (option.value.empty() ? "" : " " + option.value);
        text += option.required ? " " + shown : " [" + shown + "]";
    }
    return text;
}

Arguments::Arguments(const Command& command, const std::vector<std::string>& words) {
    for (std::size_t index = 0; index < words.size(); ++index) {
        const std::string& word = words[index];
        if (word.size() < 2 || word[0] != '-') {
            positionals_.push_back(word);
            continue;
        }
        const auto option = std::find_if(command.options.begin(), command.options.end(),
                                         [&](const Option& known) { return known.name == word; });
        if (option == command.options.end()) {
            throw usage(command.name + " has no option " + word, command.usage());
        }
        std::string value;
        if (!option->value.empty()) {
            if (++index == words.size()) {
                throw usage(word + " is the last word, expected " + option->value + " after it",
                            command.usage());
            }
            value = words[index];
        }
        values_[word].push_back(value);
    }
    const std::size_t wanted = command.positionals.size();
    if (positionals_.size() < wanted) {
        throw usage(command.positionals[positionals_.size()] + " is missing", command.usage());
    }
    if (positionals_.size() > wanted) {
        throw usage("'" + positionals_[wanted] + "' is one argument too many", command.usage());
    }
    for (const Option& option : command.options) {
        if (option.required && !has(option.name)) {
            throw usage(option.name + " " + option.value + " is missing", command.usage());
        }
    }
}

std::optional<std::string> Arguments::value(const std::string& option) const {
    const auto found = values_.find(option);
    if (found == values_.end()) return std::nullopt;
    return found->second.back();
}

std::vector<std::string> Arguments::values(const std::string& option) const {
    const auto found = values_.find(option);
    return found == values_.end() ? std::vector<std::string>{} : found->second;
}

std::int64_t Arguments::whole(const std::string& option, std::int64_t least,
                              std::int64_t otherwise) const {
    const std::optional<std::string> text = value(option);
    if (!text) return otherwise;
    std::int64_t number = 0;
    const char* const end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, number);
    if (error != std::errc() || stop != end || number < least) {
        throw usage(option + " is '" + *text + "', expected a whole number from " +
                        std::to_string(least) + " on",
                    "Leave it out for " + std::to_string(otherwise) + ".");
    }
    return number;
}

}  // namespace d2export::tool
