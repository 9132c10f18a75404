// The command line: commands with positional arguments and options, as a table.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace d2export::tool {

struct Option {
    std::string name;   // "--profile"
    std::string value;  // "N"; empty: it takes none
    std::string help;
    bool required = false;
};

struct Command {
    std::string name;
    std::vector<std::string> positionals;
    std::vector<Option> options;
    std::string help;

    std::string usage() const;
};

class Arguments {
 public:
    // Throws a Failure that names what is wrong and shows how the command is used.
    Arguments(const Command& command, const std::vector<std::string>& words);

    const std::string& positional(std::size_t index) const { return positionals_.at(index); }
    bool has(const std::string& option) const { return values_.count(option) != 0; }
    std::optional<std::string> value(const std::string& option) const;
    std::vector<std::string> values(const std::string& option) const;

    // A whole number from `least` on; `otherwise` if the option was not given.
    std::int64_t whole(const std::string& option, std::int64_t least, std::int64_t otherwise) const;

 private:
    std::vector<std::string> positionals_;
    std::map<std::string, std::vector<std::string>> values_;
};

}  // namespace d2export::tool
