// What ends the program: a message for the user, the next step, and the exit code.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace d2export::tool {

enum class Exit : int {
    kOk = 0,
    kUsage = 2,     // a wrong argument, or a file that is not what it should be
    kMismatch = 3,  // this machine, or a version on it, does not fit
};

class Failure : public std::runtime_error {
 public:
    Failure(Exit code, const std::string& problem, std::string hint)
        : std::runtime_error(problem), code_(code), hint_(std::move(hint)) {}

    Exit code() const { return code_; }
    const std::string& hint() const { return hint_; }

 private:
    Exit code_;
    std::string hint_;
};

inline Failure usage(const std::string& problem, const std::string& hint) {
    return {Exit::kUsage, problem, hint};
}

inline Failure mismatch(const std::string& problem, const std::string& hint) {
    return {Exit::kMismatch, problem, hint};
}

}  // namespace d2export::tool
