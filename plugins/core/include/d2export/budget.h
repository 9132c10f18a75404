// How many tokens stay: the attributes that all ops have. Names, defaults and limits are those of
// `Budget` in d2export/pruning/parameters.py; a test compares them.
#pragma once

#include <cstdint>
#include <string>

namespace d2export {

// Exactly one of the two is above 0.
struct Budget {
    std::int64_t keep = 0;           // visual tokens kept per picture, over all its tiles
    std::int64_t keep_permille = 0;  // or the share kept, in thousandths, at least one token

    // How many of `tokens` stay: M = min(keep, N), or the share of N.
    std::int32_t kept(std::int32_t tokens) const noexcept;

    // How many visual tokens of a prompt stay, of `tokens` in all `images` together. What images
    // with fewer tokens than `keep` leave over goes to the others, so that the two numbers are
    // enough.
    std::int32_t kept_of(std::int32_t images, std::int32_t tokens) const noexcept;

    // What is wrong with the values: the attribute, its value, what was expected. Empty if nothing.
    std::string fault() const;
};

}  // namespace d2export
