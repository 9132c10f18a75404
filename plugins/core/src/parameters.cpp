#include "d2export/parameters.h"

#include <algorithm>
#include <cmath>

namespace d2export {

std::int32_t Parameters::kept(std::int32_t tokens) const noexcept {
    const std::int64_t all = tokens;
    const std::int64_t wanted =
        keep > 0 ? keep : std::max<std::int64_t>(1, all * keep_permille / 1000);
    return static_cast<std::int32_t>(std::min(wanted, all));
}

std::int32_t Parameters::pivots(std::int32_t kept) const noexcept {
    return static_cast<std::int32_t>(std::floor(pivot_ratio * static_cast<float>(kept)));
}

std::string Parameters::fault() const {
    const auto value = [](double number) {
        std::string text = std::to_string(number);
        text.erase(text.find_last_not_of('0') + 1);
        return text.back() == '.' ? text + '0' : text;
    };
    if (keep < 0 || keep_permille < 0 || (keep > 0) == (keep_permille > 0)) {
        return "keep=" + std::to_string(keep) +
               " and keep_permille=" + std::to_string(keep_permille) +
               ": expected exactly one of them above 0";
    }
    if (keep_permille > 1000) {
        return "keep_permille is " + std::to_string(keep_permille) + ", expected 1 to 1000";
    }
    if (!(pivot_ratio >= 0 && pivot_ratio <= 1)) {
        return "pivot_ratio is " + value(pivot_ratio) + ", expected a number from 0 to 1";
    }
    if (!(alpha >= 0 && alpha <= 1)) {
        return "alpha is " + value(alpha) + ", expected a number from 0 to 1";
    }
    if (!std::isfinite(theta)) {
        return "theta is " + value(theta) + ", expected a finite number";
    }
    if (!(std::isfinite(eps) && eps >= 0)) {
        return "eps is " + value(eps) + ", expected a finite number of at least 0";
    }
    return {};
}

}  // namespace d2export
