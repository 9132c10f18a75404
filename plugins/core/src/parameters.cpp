#include "d2export/parameters.h"

#include <algorithm>
#include <cmath>

#include "d2export/rule_parameters.h"
#include "d2export/rules.h"

namespace d2export {
namespace {

// What is wrong with a number, the last of its digits not 0.
std::string unexpected(const char* name, double number, const char* expected) {
    std::string value = std::to_string(number);
    value.erase(value.find_last_not_of('0') + 1);
    value += value.back() == '.' ? "0" : "";
    return std::string(name) + " is " + value + ", expected " + expected;
}

constexpr char kShare[] = "a number from 0 to 1";

}  // namespace

std::int32_t Budget::kept(std::int32_t tokens) const noexcept {
    return rules::kept(tokens, keep, keep_permille);
}

std::int32_t Budget::kept_of(std::int32_t images, std::int32_t tokens) const noexcept {
    const std::int64_t all = tokens;
    const std::int64_t wanted = keep > 0
                                    ? images * std::min(keep, all)
                                    : std::max<std::int64_t>(images, all * keep_permille / 1000);
    return static_cast<std::int32_t>(std::min(wanted, all));
}

std::string Budget::fault() const {
    if (keep < 0 || keep_permille < 0 || (keep > 0) == (keep_permille > 0)) {
        return "keep=" + std::to_string(keep) +
               " and keep_permille=" + std::to_string(keep_permille) +
               ": expected exactly one of them above 0";
    }
    if (keep_permille > 1000) {
        return "keep_permille is " + std::to_string(keep_permille) + ", expected 1 to 1000";
    }
    return {};
}

std::int32_t Parameters::pivots(std::int32_t kept) const noexcept {
    return rules::share_of(pivot_ratio, kept);
}

std::int32_t PositionsParameters::most_joining(std::int32_t tokens) const noexcept {
    std::int32_t most = 0;
    for (std::int32_t count = 0; count <= kept(tokens); ++count) {
        most = std::max(most, pivots_block ? count : count - pivots(count));
    }
    return most;
}

std::string Parameters::fault() const {
    if (std::string budget = Budget::fault(); !budget.empty()) {
        return budget;
    }
    if (!(pivot_ratio >= 0 && pivot_ratio <= 1)) {
        return unexpected("pivot_ratio", pivot_ratio, kShare);
    }
    if (!(alpha >= 0 && alpha <= 1)) {
        return unexpected("alpha", alpha, kShare);
    }
    if (!std::isfinite(theta)) {
        return unexpected("theta", theta, "a finite number");
    }
    if (!(std::isfinite(eps) && eps >= 0)) {
        return unexpected("eps", eps, "a finite number of at least 0");
    }
    return {};
}

std::int32_t DeduplicateParameters::important(std::int32_t kept) const noexcept {
    return rules::share_of(important_ratio, kept);
}

std::string DeduplicateParameters::fault() const {
    if (std::string budget = Budget::fault(); !budget.empty()) {
        return budget;
    }
    if (!(important_ratio >= 0 && important_ratio <= 1)) {
        return unexpected("important_ratio", important_ratio, kShare);
    }
    return {};
}

}  // namespace d2export
