#include "near_duplicates.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "d2export/rules.h"
#include "products.h"

namespace d2export {

NearDuplicates::NearDuplicates(std::int32_t tokens, std::int32_t channels,
                               Scratch& scratch) noexcept
    : tokens_(tokens),
      cosines_(scratch.take<std::int32_t>(static_cast<std::size_t>(tokens) *
                                          static_cast<std::size_t>(tokens))),
      likest_(scratch.take<std::int32_t>(static_cast<std::size_t>(tokens) * kLikest)),
      order_(scratch.take<std::int32_t>(static_cast<std::size_t>(tokens))),
      next_(scratch.take<std::int32_t>(static_cast<std::size_t>(tokens))),
      states_(scratch.take<State>(static_cast<std::size_t>(tokens))),
      keys_(scratch.take<std::uint64_t>(static_cast<std::size_t>(tokens))),
      directions_(tokens, channels, scratch) {}

const std::int32_t* NearDuplicates::thin_out(const Picture& picture, const std::int32_t* tokens,
                                             std::int32_t wanted) noexcept {
    if (wanted == 0) {
        return order_;
    }
    for (std::int32_t place = 0; place < tokens_; ++place) {
        directions_.load(place, picture, tokens[place]);
    }
    compare_all();
    for (std::int32_t place = 0; place < tokens_; ++place) {
        find_likest(place);
    }
    std::iota(order_, order_ + tokens_, 0);
    for (std::int32_t left = tokens_; left > wanted;) {
        left = round(left, left - wanted);
    }
    return order_;
}

void NearDuplicates::compare_all() noexcept {
    for (std::int32_t start = 0; start < tokens_; start += kPanel) {
        const std::int32_t end = std::min(start + kPanel, tokens_);
        multiply(directions_.length(), {start, tokens_}, directions_, {start, end}, directions_,
                 [&](std::int32_t i, std::int32_t k, std::int32_t cosine) {
                     cosines(i)[k] = cosine;
                     cosines(k)[i] = cosine;
                 });
    }
}

// Lists the places that are most like `place`, without itself.
void NearDuplicates::find_likest(std::int32_t place) noexcept {
    const std::int32_t* const row = cosines(place);
    std::int32_t count = 0;
    for (std::int32_t other = 0; other < tokens_; ++other) {
        if (other != place) {
            next_[count++] = other;
        }
    }
    std::int32_t* const list = likest(place);
    const std::int32_t length = std::min(count, kLikest);
    std::partial_sort_copy(next_, next_ + count, list, list + length,
                           [row](std::int32_t a, std::int32_t b) { return row[a] > row[b]; });
    std::fill(list + length, list + kLikest, place);  // which is never odd where it is asked
}

// Highest cosine of an even place with any odd one, of which there is at least one.
std::int32_t NearDuplicates::nearest_odd(std::int32_t place, std::int32_t left) const noexcept {
    const std::int32_t* const row = cosines(place);
    const std::int32_t* const list = likest(place);
    for (std::int32_t i = 0; i < kLikest; ++i) {
        if (states_[list[i]] == State::kOdd) {
            return row[list[i]];
        }
    }
    std::int32_t nearest = std::numeric_limits<std::int32_t>::min();
    for (std::int32_t i = 1; i < left; i += 2) {
        nearest = std::max(nearest, row[order_[i]]);
    }
    return nearest;
}

// Returns how many are left.
std::int32_t NearDuplicates::round(std::int32_t left, std::int32_t surplus) noexcept {
    for (std::int32_t i = 0; i < left; ++i) {
        states_[order_[i]] = i % 2 == 0 ? State::kEven : State::kOdd;
    }
    const std::int32_t even = (left + 1) / 2;
    for (std::int32_t i = 0; i < even; ++i) {
        const auto nearest = static_cast<float>(nearest_odd(order_[2 * i], left));
        keys_[i] = rules::rank_key(nearest, static_cast<std::uint32_t>(i));
    }
    const std::int32_t going = std::min({rules::kRemovedAtOnce, surplus, even});
    std::partial_sort(keys_, keys_ + going, keys_ + even);
    for (std::int32_t i = 0; i < going; ++i) {
        states_[order_[2 * static_cast<std::int32_t>(keys_[i] & 0xFFFFFFFFU)]] = State::kGone;
    }
    std::int32_t count = 0;
    for (const State state : {State::kEven, State::kOdd}) {
        for (std::int32_t i = 0; i < left; ++i) {
            if (states_[order_[i]] == state) {
                next_[count++] = order_[i];
            }
        }
    }
    std::swap(order_, next_);
    return count;
}

}  // namespace d2export
