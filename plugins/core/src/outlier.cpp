#include "outlier.h"

#include <algorithm>
#include <limits>

#include "products.h"

namespace d2export {

std::int32_t Outlier::find(const Directions& directions, std::int32_t* nearest) noexcept {
    nearest_ = nearest;
    std::fill_n(nearest, tokens_, kNoCosine);
    compare_neighbours(directions);
    order_.clear();
    for (std::int32_t token = 0; token < tokens_; ++token) {
        order_.push(ranked(token));
    }
    best_ = {-std::numeric_limits<double>::infinity(), tokens_};
    count_ = 0;
    for (std::int32_t first = 0;; first = first < tokens_ ? first : 0) {
        suspect();
        if (count_ == 0) {
            return best_.token;
        }
        const std::int32_t last = std::min(first + kRowsAtOnce, tokens_);
        compare_suspects(directions, first, last);
        first = last;
    }
}

void Outlier::compare_neighbours(const Directions& directions) noexcept {
    for (std::int32_t start = 0; start < tokens_; start += kTogether) {
        const std::int32_t end = std::min(start + kTogether, tokens_);
        for (std::int32_t first = start; first < end; first += kRowsAtOnce) {
            multiply(
                directions.length(), {first, std::min(first + kRowsAtOnce, end)}, directions,
                {first, end}, directions,
                [&](std::int32_t i, std::int32_t k, std::int32_t cosine) { raise(i, k, cosine); });
        }
    }
}

// Tokens that may be better than the best take the place of the dismissed.
void Outlier::suspect() noexcept {
    while (count_ < kSuspects && !order_.empty()) {
        const Ranked then = order_.pop();
        const Ranked now = ranked(then.token);
        if (best_.before(then)) {
            order_.clear();
        } else if (now.before(then) || then.before(now)) {
            order_.push(now);
        } else {
            suspects_[count_] = then.token;
            unseen_[count_] = tokens_;
            ++count_;
        }
    }
}

// With the tokens from `first` to `last`.
void Outlier::compare_suspects(const Directions& directions, std::int32_t first,
                               std::int32_t last) noexcept {
    multiply(
        directions.length(), {first, last}, directions, {0, count_},
        [&](std::int32_t k) { return directions(suspects_[k]); },
        [&](std::int32_t i, std::int32_t k, std::int32_t cosine) {
            raise(i, suspects_[k], cosine);
        });
    for (std::int32_t k = count_ - 1; k >= 0; --k) {
        unseen_[k] -= last - first;
        const Ranked known = ranked(suspects_[k]);
        if (unseen_[k] == 0 || best_.before(known)) {
            best_ = best_.before(known) ? best_ : known;
            --count_;
            suspects_[k] = suspects_[count_];
            unseen_[k] = unseen_[count_];
        }
    }
}

void Outlier::raise(std::int32_t a, std::int32_t b, std::int32_t cosine) noexcept {
    if (a != b) {
        nearest_[a] = std::max(nearest_[a], cosine);
        nearest_[b] = std::max(nearest_[b], cosine);
    }
}

}  // namespace d2export
