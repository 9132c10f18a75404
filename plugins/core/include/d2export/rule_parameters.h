// The attributes of the ops besides D2Prune. Names, defaults and limits are those of
// d2export/pruning/rule_parameters.py; a test compares them.
//
// kInputs of an op are the first so many of features, importance, prior and grid, kOutputs are kept
// and indices. each() calls
// visit(name, value) for each attribute of `self`, which may be const.
#pragma once

#include <cstdint>
#include <string>

#include "d2export/budget.h"

namespace d2export {

struct MaxMinParameters : Budget {
    static constexpr const char* kOp = "MaxMinPrune";
    static constexpr int kInputs = 1;
    static constexpr int kOutputs = 2;

    template <typename Self, typename Visit>
    static void each(Self& self, const Visit& visit) {
        visit("keep", self.keep);
        visit("keep_permille", self.keep_permille);
    }
};

struct DppParameters : Budget {
    static constexpr const char* kOp = "DppPrune";
    static constexpr int kInputs = 2;
    static constexpr int kOutputs = 2;

    template <typename Self, typename Visit>
    static void each(Self& self, const Visit& visit) {
        visit("keep", self.keep);
        visit("keep_permille", self.keep_permille);
    }
};

struct DeduplicateParameters : Budget {
    static constexpr const char* kOp = "DeduplicatePrune";
    static constexpr int kInputs = 2;
    static constexpr int kOutputs = 2;

    float important_ratio = 0.5F;  // share of the kept tokens picked by importance alone

    // How many of the `kept` tokens are picked so: one float32 product, rounded down.
    std::int32_t important(std::int32_t kept) const noexcept;

    // What is wrong with the values: the attribute, its value, what was expected. Empty if nothing.
    std::string fault() const;

    template <typename Self, typename Visit>
    static void each(Self& self, const Visit& visit) {
        visit("keep", self.keep);
        visit("keep_permille", self.keep_permille);
        visit("important_ratio", self.important_ratio);
    }
};

}  // namespace d2export
