// overhead BUNDLE [STEPS]: what the host costs per token of an answer, with a backend that computes
// nothing. Prints JSON: microseconds (median and 99th percentile) and allocations of a decode step
// with the choice of the next token; the same with the text of the answer; and the choice alone of
// as many tokens as Qwen2's vocabulary has.
#include <d2export/runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "allocations.h"

namespace {

using namespace d2export::runtime;

struct Cost {
    double median, p99;  // microseconds
    long allocated;
};

template <typename Token>
Cost measured(int steps, Token token) {
    std::vector<double> times(static_cast<std::size_t>(steps));
    const long before = allocations;
    for (double& time : times) {
        const auto start = std::chrono::steady_clock::now();
        token();
        const std::chrono::duration<double, std::micro> passed =
            std::chrono::steady_clock::now() - start;
        time = passed.count();
    }
    const long allocated = allocations - before;
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times[times.size() * 99 / 100], allocated};
}

Prompt prompt_of(const Model& model) {
    const VisionSpec& vision = model.bundle().manifest().vision;
    const Image grey{std::vector<std::uint8_t>(300, 127), 10, 10};
    std::vector<Tiles> images{prepare(grey, vision)};
    const std::int64_t tokens = images[0].tiles * vision.tokens_per_tile();
    return model.prompt(model.tokenizer().encode("What is this?", {tokens}), images);
}

constexpr std::size_t kLargeVocab = 151674;

Cost choice_of_many(int steps) {
    std::vector<float> logits(kLargeVocab);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] = static_cast<float>(i * 7919 % 10007);
    }
    Sampler sampler(std::nullopt, kLargeVocab);
    return measured(steps, [&] { sampler.pick({logits.data(), kLargeVocab}); });
}

void measure(const char* path, int steps) {
    // A token that writes something and ends nothing.
    const Bundle bundle(path);
    const Tokenizer tokenizer((bundle.root() / "processor").string(), bundle.manifest().text.vocab);
    std::int64_t word = 0;
    while (tokenizer.is_stop(word) || tokenizer.decode({word}).empty()) {
        ++word;
    }
    const Model model(bundle, null_backend(word));
    Sequence sequence = model.start();
    Sampler sampler(std::nullopt, bundle.manifest().text.vocab);
    std::int64_t token = sampler.pick(sequence.prefill(prompt_of(model)).logits);
    TextStream stream(model.tokenizer());
    std::string piece;
    const auto step = [&] { token = sampler.pick(sequence.step(token).logits); };
    const auto with_text = [&] {
        step();
        stream.put(token, piece);
    };
    for (int i = 0; i < 100; ++i) {
        with_text();
    }
    const Cost alone = measured(steps, step), text = measured(steps, with_text);
    const Cost many = choice_of_many(steps);
    std::printf(
        "{\"steps\": %d, \"vocab\": %lld, \"step\": {\"median\": %.3f, \"p99\": %.3f, "
        "\"allocations\": %ld}, \"with_text\": {\"median\": %.3f, \"p99\": %.3f, "
        "\"allocations\": %ld}, \"choice_of_151674\": {\"median\": %.3f, \"allocations\": %ld}}\n",
        steps, static_cast<long long>(bundle.manifest().text.vocab), alone.median, alone.p99,
        alone.allocated, text.median, text.p99, text.allocated, many.median, many.allocated);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        return 2;
    }
    try {
        measure(arguments[1], count > 2 ? std::atoi(arguments[2]) : 1000);
        return 0;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n  %s\n", error.what(), error.hint());
        return 3;
    }
}
