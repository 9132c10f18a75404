#include "walk.h"

#include <algorithm>

#include "d2export/rules.h"
#include "dots.h"

namespace d2export {
namespace {

// Of one call in dots.h.
constexpr std::int32_t kOthers = 4;
constexpr std::int32_t kRows = 3;

}  // namespace

Walk::Walk(std::int32_t capacity, std::int32_t channels, Scratch& scratch) noexcept
    : capacity_(capacity),
      joined_(capacity, channels, scratch),
      batch_(capacity == 0 ? 0 : kBatch, channels, scratch),
      nearness_(scratch.take<float>(kBatch * static_cast<std::size_t>(capacity))),
      within_(scratch.take<std::int32_t>(static_cast<std::size_t>(capacity))) {}

void Walk::start(const Neighbourhood& neighbourhood) noexcept {
    neighbourhood_ = neighbourhood;
    joined_.clear();
    batch_.clear();
}

void Walk::propose(std::int32_t token) noexcept {
    const std::int32_t k = batch_.count();
    batch_.append(neighbourhood_, token);
    const std::int32_t count = find_within(0, k);
    const float* const near = nearness(k);
    const std::int32_t nearest = std::min(count, kOthers);
    std::partial_sort(within_, within_ + nearest, within_ + count,
                      [near](std::int32_t a, std::int32_t b) { return near[a] > near[b]; });
    blocked_[k] = has_neighbour_among(within_, nearest, k);
    settled_[k] = count == nearest;
    if (blocked_[k]) {
        batch_.drop_last();
    }
}

// Lists in `within_` the joined tokens from `first` on that candidate k may be a neighbour of.
std::int32_t Walk::find_within(std::int32_t first, std::int32_t k) noexcept {
    float* const near = nearness(k);
    joined_.measure(batch_, k, neighbourhood_.diagonal, first, near);
    std::int32_t count = 0;
    for (std::int32_t j = first; j < joined_.count(); ++j) {
        within_[count] = j;
        count += joined_.may_be_neighbours(j, batch_, k, near[j], neighbourhood_) ? 1 : 0;
    }
    return count;
}

bool Walk::is_neighbour(std::int32_t j, std::int32_t k, float cosine) const noexcept {
    return rules::similarity(cosine, nearness(k)[j], neighbourhood_.alpha) > neighbourhood_.theta;
}

bool Walk::has_neighbour_among(const std::int32_t* rows, std::int32_t count,
                               std::int32_t k) const noexcept {
    for (std::int32_t done = 0; done < count; done += kOthers) {
        const float* others[kOthers];
        for (std::int32_t i = 0; i < kOthers; ++i) {
            others[i] = joined_.row(rows[std::min(done + i, count - 1)]);
        }
        float cosines[kOthers];
        four_dots(batch_.row(k), others, batch_.length(), cosines);
        for (std::int32_t i = 0; i < kOthers && done + i < count; ++i) {
            if (is_neighbour(rows[done + i], k, cosines[i])) {
                return true;
            }
        }
    }
    return false;
}

bool Walk::has_neighbour_from(std::int32_t first, std::int32_t k) noexcept {
    const std::int32_t count = find_within(first, k);
    return has_neighbour_among(within_, count, k);
}

void Walk::compare_with_joined() noexcept {
    // Few tokens near enough: candidate by candidate. Many: all candidates against four at a time.
    std::int64_t unsettled = 0;
    std::int64_t pairs = 0;
    for (std::int32_t k = 0; k < batch_.count(); ++k) {
        if (!settled_[k]) {
            ++unsettled;
            pairs += find_within(0, k);
        }
    }
    if (2 * pairs > unsettled * joined_.count()) {
        for (std::int32_t j = 0; j < joined_.count(); j += kOthers) {
            compare_with_four(j);
        }
        return;
    }
    for (std::int32_t k = 0; k < batch_.count(); ++k) {
        if (!settled_[k]) {
            const std::int32_t count = find_within(0, k);
            blocked_[k] = has_neighbour_among(within_, count, k);
        }
    }
}

// Blocks the candidates that are neighbours of joined token `first` or the three after it.
void Walk::compare_with_four(std::int32_t first) noexcept {
    const float* others[kOthers];
    for (std::int32_t i = 0; i < kOthers; ++i) {
        others[i] = joined_.row(std::min(first + i, joined_.count() - 1));
    }
    std::int32_t open[kBatch];
    std::int32_t count = 0;
    for (std::int32_t k = 0; k < batch_.count(); ++k) {
        open[count] = k;
        count += blocked_[k] || settled_[k] ? 0 : 1;
    }
    for (std::int32_t done = 0; done < count; done += kRows) {
        const float* rows[kRows];
        for (std::int32_t i = 0; i < kRows; ++i) {
            rows[i] = batch_.row(open[std::min(done + i, count - 1)]);
        }
        float cosines[kRows * kOthers];
        three_by_four_dots(rows, others, batch_.length(), cosines);
        for (std::int32_t i = 0; i < kRows && done + i < count; ++i) {
            const std::int32_t k = open[done + i];
            for (std::int32_t j = 0; j < kOthers && first + j < joined_.count(); ++j) {
                blocked_[k] = blocked_[k] || is_neighbour(first + j, k, cosines[kOthers * i + j]);
            }
        }
    }
}

}  // namespace d2export
