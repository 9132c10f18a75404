// The attributes of the ops D2Prune and D2PrunePositions. Names, defaults and limits are those of
// d2export/pruning/parameters.py; a test compares them.
#pragma once

#include <cstdint>
#include <string>

#include "d2export/budget.h"

namespace d2export {

inline constexpr char kOpName[] = "D2Prune";
inline constexpr char kOpDomain[] = "d2export";  // ONNX domain and TensorRT plugin namespace
inline constexpr int kOpVersion = 1;

struct Parameters : Budget {
    static constexpr const char* kOp = kOpName;
    static constexpr int kInputs = 4;   // features, importance, prior, grid
    static constexpr int kOutputs = 2;  // kept, indices

    float pivot_ratio = 0.7F;   // share of the kept tokens picked by importance alone
    float alpha = 0.5F;         // weight of semantic against spatial similarity
    float theta = 0.8F;         // neighbours are more similar than this
    float eps = 1e-7F;          // added to the prior before dividing by it
    bool pivots_block = false;  // whether pivots rule out their neighbours, too

    // How many of the `kept` tokens are pivots: one float32 product, rounded down.
    std::int32_t pivots(std::int32_t kept) const noexcept;

    // What is wrong with the values: the attribute, its value, what was expected. Empty if nothing.
    std::string fault() const;

    // Calls visit(name, value) for each attribute of `self`, Parameters or const Parameters.
    template <typename Self, typename Visit>
    static void each(Self& self, const Visit& visit) {
        visit("keep", self.keep);
        visit("keep_permille", self.keep_permille);
        visit("pivot_ratio", self.pivot_ratio);
        visit("alpha", self.alpha);
        visit("theta", self.theta);
        visit("eps", self.eps);
        visit("pivots_block", self.pivots_block);
    }
};

// The same for a prompt: what it reads and writes is in prompt.h.
struct PositionsParameters : Parameters {
    static constexpr const char* kOp = "D2PrunePositions";
    static constexpr int kInputs = 6;
    static constexpr int kOutputs = 1;  // positions

    // How many tokens a candidate may have to be compared with, at most, in any image of so many
    // tokens or fewer: those that have joined the independent set, and the pivots where they block.
    std::int32_t most_joining(std::int32_t tokens) const noexcept;
};

}  // namespace d2export
