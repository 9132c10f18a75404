#include <d2export/error.h>
#include <d2export/sampling.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "most_likely.h"
#include "pcg64.h"

namespace d2export::runtime {
namespace {

void check(const char* name, double value, bool fits, const char* expected) {
    if (!fits) {
        throw bad_input(
            std::string(name) + " is " + std::to_string(value) + ", expected " + expected,
            "Leave it out.");
    }
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
    if (first < 0) {
        throw bad_input("the decoder answers NaN or infinity, expected finite logits",
                        "The model leaves the range of its precision: build it again with "
                        "--precision fp32.");
    }
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
