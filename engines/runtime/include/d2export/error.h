/// @file
/// The one exception of this library: what is wrong, and what to do about it.
#pragma once

#include <d2export/export.h>

#include <stdexcept>
#include <string>

namespace d2export::runtime {

/// What kind of thing went wrong; the number is the exit code of d2export's command line.
enum class Blame : int {
    kInput = 2,    ///< an argument, a picture, or a bundle that is not what it should be
    kMachine = 3,  ///< this machine, or a version on it, does not fit
};

/// Thrown by every call that can fail. Any other exception is a bug, or std::bad_alloc.
///
/// `what()` is the problem: it names the thing, the value found and the value expected.
class D2EXPORT_API Error : public std::runtime_error {
 public:
    /// @param blame what kind of thing went wrong
    /// @param problem the thing, the value found, the value expected
    /// @param hint the next step, as an imperative sentence
    Error(Blame blame, const std::string& problem, const std::string& hint);
    Error(const Error&) noexcept = default;
    Error& operator=(const Error&) noexcept = default;
    ~Error() override;

    /// What kind of thing went wrong.
    Blame blame() const noexcept { return blame_; }
    /// The next step; lives as long as the exception.
    const char* hint() const noexcept { return hint_.what(); }

 private:
    Blame blame_;
    std::runtime_error hint_;  // a string whose copies cannot fail
};

/// An Error about an argument or a file.
D2EXPORT_API Error bad_input(const std::string& problem, const std::string& hint);

/// An Error about this machine, or a version on it.
D2EXPORT_API Error misfit(const std::string& problem, const std::string& hint);

}  // namespace d2export::runtime
