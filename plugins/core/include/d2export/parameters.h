// The attributes of the op D2Prune. Names, defaults and limits are those of
// d2export/pruning/parameters.py; a test compares them.
#pragma once

#include <cstdint>
#include <string>

namespace d2export {

inline constexpr char kOpName[] = "D2Prune";
inline constexpr char kOpDomain[] = "d2export";  // ONNX domain and TensorRT plugin namespace
inline constexpr int kOpVersion = 1;

// Exactly one of `keep` and `keep_permille` is above 0.
struct Parameters {
    std::int64_t keep = 0;           // visual tokens kept per picture, over all its tiles
    std::int64_t keep_permille = 0;  // or the share kept, in thousandths, at least one token
    float pivot_ratio = 0.7F;        // share of the kept tokens picked by importance alone
    float alpha = 0.5F;              // weight of semantic against spatial similarity
    float theta = 0.8F;              // neighbours are more similar than this
    float eps = 1e-7F;               // added to the prior before dividing by it
    bool pivots_block = false;       // whether pivots rule out their neighbours, too

    // How many of `tokens` stay: M = min(keep, N), or the share of N.
    std::int32_t kept(std::int32_t tokens) const noexcept;

    // How many of the `kept` tokens are pivots: one float32 product, rounded down.
    std::int32_t pivots(std::int32_t kept) const noexcept;

    // What is wrong with the values: the attribute, its value, what was expected. Empty if nothing.
    std::string fault() const;
};

}  // namespace d2export
