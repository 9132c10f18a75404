#include "log.h"

#include <algorithm>
#include <cstdio>

namespace d2export::tool {
namespace {

constexpr std::size_t kShown = 20;  // errors in a message

}  // namespace

void Log::log(Severity severity, const char* message) noexcept {
    const bool is_error = severity <= Severity::kERROR;
    if (!is_error && !(verbose_ && severity == Severity::kWARNING)) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_error) errors_.emplace_back(message);
    if (verbose_) note(std::string("  TensorRT: ") + message);
}

void Log::note(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

Failure Log::failure(const std::string& problem, std::vector<std::string> details,
                     const std::string& hint) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::string& error : errors_) {
        if (std::find(details.begin(), details.end(), error) == details.end()) {
            details.push_back(error);
        }
    }
    std::string text = problem;
    for (std::size_t index = 0; index < std::min(details.size(), kShown); ++index) {
        text += "\n    " + details[index];
    }
    if (details.size() > kShown) {
        text += "\n    and " + std::to_string(details.size() - kShown) + " more";
    }
    return mismatch(text, hint);
}

}  // namespace d2export::tool
