#include "answering.h"

#include <d2export/error.h>

#include <chrono>
#include <string>

#include "prompt_layout.h"

namespace d2export::runtime {
namespace {

// Seconds since it was made or asked last.
class Clock {
 public:
    double seconds() {
        const auto now = std::chrono::steady_clock::now();
        const std::chrono::duration<double> passed = now - since_;
        since_ = now;
        return passed.count();
    }

 private:
    std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

void check_request(std::size_t images, const Request& request) {
    if (images == 0) {
        throw bad_input("there is no image", "Pass one; this is a model for pictures.");
    }
    if (request.max_new_tokens < 1) {
        throw bad_input(
            "max_new_tokens is " + std::to_string(request.max_new_tokens) + ", expected at least 1",
            "Leave it out.");
    }
}

void check_length(std::size_t prompt, std::int64_t new_tokens, std::int64_t limit) {
    const auto tokens = static_cast<std::int64_t>(prompt);
    if (new_tokens > limit || tokens > limit - new_tokens) {
        throw bad_input("the prompt has " + std::to_string(tokens) +
                            " tokens and the answer may "
                            "have " +
                            std::to_string(new_tokens) + ", this model's context is " +
                            std::to_string(limit),
                        "Pass a lower max_new_tokens, fewer or smaller pictures, or a shorter "
                        "prompt.");
    }
}

// Which tokens of the whole prompt are left, ascending.
std::vector<std::int64_t> survivors(const Prompt& prompt, const Step& step, bool prunes) {
    if (!prunes) {
        return prompt.origin;
    }
    std::vector<std::int64_t> found;
    for (std::int64_t i = 0; i < step.positions.count; ++i) {
        found.push_back(prompt.origin[static_cast<std::size_t>(step.positions.data[i])]);
    }
    return found;
}

// Writes the answer, token after token, into memory that is there from the beginning.
class Writing {
 public:
    Writing(const Model& model, const Request& request, Answer& answer)
        : tokenizer_(model.tokenizer()), request_(request), answer_(answer), stream_(tokenizer_) {
        constexpr std::size_t kBytesPerToken = 16;
        const auto tokens = static_cast<std::size_t>(request.max_new_tokens);
        answer_.tokens.reserve(tokens);
        answer_.text.reserve(tokens * kBytesPerToken);
    }

    // Whether another token is wanted.
    bool add(std::int64_t token) {
        answer_.tokens.push_back(token);
        if (tokenizer_.is_stop(token)) {
            answer_.finish = Finish::kStop;
            return false;
        }
        stream_.put(token, piece_);
        if (!say()) {
            answer_.finish = Finish::kCancelled;
            return false;
        }
        return static_cast<std::int64_t>(answer_.tokens.size()) < request_.max_new_tokens;
    }

    void end() {
        if (answer_.finish != Finish::kCancelled) {
            stream_.end(piece_);
            say();
        }
    }

 private:
    bool say() {
        answer_.text += piece_;
        return piece_.empty() || !request_.on_text || request_.on_text(piece_);
    }

    const Tokenizer& tokenizer_;
    const Request& request_;
    Answer& answer_;
    TextStream stream_;
    std::string piece_;
};

}  // namespace

Answer answered(const Model& model, const std::vector<Image>& images, const Request& request) {
    Clock clock;
    std::vector<Tiles> tiles;
    for (const Image& image : images) {
        tiles.push_back(prepare(image, model.bundle().manifest().vision));
    }
    const double cutting = clock.seconds();
    Answer answer = answered(model, tiles, request);
    answer.timings.preprocessing += cutting;
    return answer;
}

Answer answered(const Model& model, const std::vector<Tiles>& tiles, const Request& request) {
    check_request(tiles.size(), request);
    const Manifest& manifest = model.bundle().manifest();
    Sequence sequence = model.start();
    Sampler sampler(request.sampling, manifest.text.vocab);
    Answer answer;
    Clock clock;

    std::vector<std::int64_t> lengths;
    for (const Tiles& image : tiles) {
        lengths.push_back(image.tiles * manifest.vision.tokens_per_tile());
        answer.tiles.push_back(image.tiles);
    }
    const Encoded encoded = model.tokenizer().encode(request.prompt, lengths, request.system);
    check_length(encoded.input_ids.size(), request.max_new_tokens, manifest.text.max_positions);
    answer.prompt_tokens = static_cast<std::int64_t>(encoded.input_ids.size());
    answer.timings.preprocessing = clock.seconds();
    if (request.on_warning) {
        const std::string unusual = model.outside_prior(answer.tiles);
        if (!unusual.empty()) {
            request.on_warning(unusual);
        }
        clock.seconds();
    }

    const Prompt prompt = model.prompt(encoded, tiles);
    answer.timings.vision = clock.seconds();
    Step step = sequence.prefill(prompt);
    answer.timings.prefill = clock.seconds();
    answer.kept = kept_per_image(encoded, survivors(prompt, step, manifest.pruning.in_decoder));

    Writing writing(model, request, answer);
    clock.seconds();
    while (writing.add(sampler.pick(step.logits))) {
        step = sequence.step(answer.tokens.back());
    }
    writing.end();
    answer.timings.decode = clock.seconds();
    return answer;
}

}  // namespace d2export::runtime
