#include "log.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

namespace d2export::runtime::trt {
namespace {

thread_local std::array<char, 400> error{};  // the first one, as far as it fits

}  // namespace

Log& Log::only() {
    static Log* const log = std::make_unique<Log>().release();  // outlives every static object
    return *log;
}

void Log::log(Severity severity, const char* message) noexcept {
    if (severity <= Severity::kERROR && error.front() == '\0') {
        std::strncpy(error.data(), message, error.size() - 1);  // the last one stays NUL
        std::replace(error.begin(), error.end(), '\n', ' ');
    }
}

void Log::clear() noexcept { error.front() = '\0'; }

std::string Log::why() const {
    return error.front() == '\0' ? "" : ": " + std::string(error.data());
}

}  // namespace d2export::runtime::trt
