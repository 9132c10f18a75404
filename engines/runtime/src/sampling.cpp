#include <d2export/error.h>
#include <d2export/sampling.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "pcg64.h"

namespace d2export::runtime {
namespace {

constexpr std::int64_t kLanes = 16;

void check(const char* name, double value, bool fits, const char* expected) {
    if (!fits) {
        throw bad_input(
            std::string(name) + " is " + std::to_string(value) + ", expected " + expected,
            "Leave it out.");
    }
}

// The place of the largest value; several lanes, so that compilers make vectors of them.
std::int64_t most_likely(const Span<float>& logits) {
    float best[kLanes];
    bool odd = false;
    std::fill(best, best + kLanes, -std::numeric_limits<float>::infinity());
    const std::int64_t whole = logits.count - logits.count % kLanes;
    for (std::int64_t i = 0; i < whole; i += kLanes) {
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = logits.data[i + lane];
            odd |= !(value <= std::numeric_limits<float>::max());
            best[lane] = value > best[lane] ? value : best[lane];
        }
    }
    for (std::int64_t i = whole; i < logits.count; ++i) {
        odd |= !(logits.data[i] <= std::numeric_limits<float>::max());
        best[0] = std::max(best[0], logits.data[i]);
    }
    const float largest = *std::max_element(best, best + kLanes);
    if (odd || !std::isfinite(largest)) {
        throw bad_input("the decoder answers NaN or infinity, expected finite logits",
                        "The model leaves the range of its precision: build it again with "
                        "--precision fp32.");
    }
    return std::find(logits.data, logits.data + logits.count, largest) - logits.data;
}

}  // namespace

struct Sampler::State {
    std::optional<Sampling> sampling;
    Pcg64 generator{0};
    std::vector<std::int64_t> order;
    std::vector<double> weights;
};

Sampler::Sampler(const std::optional<Sampling>& sampling, std::int64_t vocab)
    : state_(std::make_unique<State>()) {
    if (!sampling) {
        return;
    }
    check("temperature", sampling->temperature,
          sampling->temperature > 0 && std::isfinite(sampling->temperature), "above 0");
    check("top_k", static_cast<double>(sampling->top_k), sampling->top_k >= 0, "at least 0");
    check("top_p", sampling->top_p, 0 < sampling->top_p && sampling->top_p <= 1,
          "above 0, at most 1");
    state_->sampling = sampling;
    state_->generator = Pcg64(sampling->seed);
    state_->order.resize(static_cast<std::size_t>(vocab));
    state_->weights.resize(static_cast<std::size_t>(vocab));
}

Sampler::Sampler(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

std::int64_t Sampler::pick(const Span<float>& logits) {
    const std::int64_t first = most_likely(logits);
    if (!state_->sampling) {
        return first;
    }
    const Sampling& sampling = *state_->sampling;
    std::vector<std::int64_t>& order = state_->order;
    order.resize(static_cast<std::size_t>(logits.count));
    std::iota(order.begin(), order.end(), 0);
    const auto likelier = [&](std::int64_t a, std::int64_t b) {
        return logits.data[a] > logits.data[b] || (logits.data[a] == logits.data[b] && a < b);
    };
    auto count = static_cast<std::ptrdiff_t>(order.size());
    if (sampling.top_k > 0 && sampling.top_k < logits.count) {
        count = sampling.top_k;
    }
    std::partial_sort(order.begin(), order.begin() + count, order.end(), likelier);

    std::vector<double>& weights = state_->weights;
    weights.resize(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double below = double{logits.data[order[i]]} - double{logits.data[first]};
        weights[i] = std::exp(below / sampling.temperature);
    }
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    // The token that reaches top_p is the last one in.
    std::size_t kept = 0;
    double reached = 0;
    do {
        reached += weights[kept++] / all;
    } while (kept < weights.size() && reached < sampling.top_p);
    const double drawn = state_->generator.real() * reached;
    std::size_t place = 0;
    for (double sum = weights[0] / all; place + 1 < kept && sum <= drawn;) {
        sum += weights[++place] / all;
    }
    return order[place];
}

}  // namespace d2export::runtime
