// The greedy choice of tokens whose worth falls, or stays, with each one kept.
//
// What a token was worth when it was last compared is at least what it is worth now: only those
// that seem the best are compared with what was kept since, three at a time and some of it at once.
// Each comparison is the one that a row of all tokens would have had, so is the choice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "best_first.h"
#include "products.h"
#include "scratch.h"

namespace d2export {

class LazyGreedy {
 public:
    LazyGreedy(std::int32_t tokens, Scratch& scratch) noexcept
        : tokens_(tokens),
          order_(tokens, scratch),
          compared_(scratch.take<std::int32_t>(static_cast<std::size_t>(tokens))) {}

    // Keeps tokens until there are `wanted`, `kept` of them already, or no candidate is left.
    // Returns how many are kept. `rule` has
    //   candidate(token)           whether it can be kept,
    //   worth(token)               more for better ones,
    //   keep(token, k)             which is told that it is the k-th kept,
    //   kept(k)                    the row of the k-th kept, of length(),
    //   row(i, token)              the row of a token to compare, the i-th at once,
    //   compare(token, k, product) which is told, in the order of k, the product with the k-th
    //   kept.
    template <typename Rule>
    std::int32_t run(std::int32_t kept, std::int32_t wanted, Rule& rule) noexcept {
        order_.clear();
        for (std::int32_t token = 0; token < tokens_; ++token) {
            compared_[token] = kNever;
            if (rule.candidate(token)) {
                order_.push({rule.worth(token), token});
            }
        }
        while (kept < wanted && !order_.empty()) {
            if (compared_[order_.best().token] == kept) {
                rule.keep(order_.pop().token, kept);
                ++kept;
            } else {
                compare_best(kept, rule);
            }
        }
        return kept;
    }

 private:
    static constexpr std::int32_t kNever = -1;
    static constexpr std::int32_t kStretch = 16;  // kept tokens to compare with at once

    template <typename Rule>
    void compare_best(std::int32_t kept, Rule& rule) noexcept {
        std::int32_t tokens[kRowsAtOnce];
        const std::int16_t* rows[kRowsAtOnce];
        std::int32_t count = 0;
        std::int32_t first = kept;
        while (count < kRowsAtOnce && !order_.empty() && compared_[order_.best().token] < kept) {
            const std::int32_t token = order_.pop().token;
            first = std::min(first, std::max(compared_[token], 0));
            tokens[count] = token;
            rows[count] = rule.row(count, token);
            ++count;
        }
        const std::int32_t last = std::min(first + kStretch, kept);
        multiply(
            rule.length(), {0, count}, [&](std::int32_t i) { return rows[i]; }, {first, last},
            [&](std::int32_t k) { return rule.kept(k); },
            [&](std::int32_t i, std::int32_t k, std::int32_t product) {
                if (k >= compared_[tokens[i]]) {
                    rule.compare(tokens[i], k, product);
                }
            });
        for (std::int32_t i = 0; i < count; ++i) {
            compared_[tokens[i]] = std::max(compared_[tokens[i]], last);
            if (rule.candidate(tokens[i])) {
                order_.push({rule.worth(tokens[i]), tokens[i]});
            }
        }
    }

    std::int32_t tokens_;
    BestFirst order_;
    std::int32_t* compared_;  // [N], with how many of the kept tokens
};

}  // namespace d2export
