#include "sequence.h"

#include <d2export/error.h>

#include <string>

namespace d2export::runtime {
namespace {

template <typename Number>
Span<Number> span(const std::vector<Number>& values) {
    return {values.data(), static_cast<std::int64_t>(values.size())};
}

// A graph is a file: what it answers is used as indices only after a look.
void check(const DecoderOutput& output, const DecoderInput& input, std::int64_t vocab) {
    if (output.logits.count != vocab) {
        throw bad_input("the decoder answers " + std::to_string(output.logits.count) +
                            " logits, expected " + std::to_string(vocab),
                        "Build the bundle again.");
    }
    std::int64_t before = -1;
    for (std::int64_t i = 0; i < output.positions.count; ++i) {
        const std::int64_t position = output.positions.data[i];
        if (position <= before || position >= input.input_ids.count) {
            throw bad_input("the decoder answers the position " + std::to_string(position) +
                                ", expected ascending ones below " +
                                std::to_string(input.input_ids.count),
                            "Build the bundle again.");
        }
        before = position;
    }
}

}  // namespace

Step SequenceState::run(const DecoderInput& input) {
    const std::int64_t last = input.position_ids.data[input.position_ids.count - 1];
    if (last >= limit) {
        throw bad_input("the prompt has " + std::to_string(last + 1) +
                            " tokens, this model's context " + std::to_string(limit),
                        "Use fewer or smaller pictures, or a shorter prompt.");
    }
    const DecoderOutput output = graph->run(*cache, input);
    length = last + 1;  // the keys and values are in the cache by now
    check(output, input, vocab);
    return {output.logits, output.positions};
}

Sequence::Sequence(std::unique_ptr<SequenceState> state) : state_(std::move(state)) {}
Sequence::Sequence(Sequence&&) noexcept = default;
Sequence& Sequence::operator=(Sequence&&) noexcept = default;
Sequence::~Sequence() = default;

std::int64_t Sequence::length() const { return state_->length; }

Step Sequence::prefill(const Prompt& prompt) {
    const std::size_t count = prompt.input_ids.size();
    if (count == 0 || (!prompt.contiguous && prompt.origin.size() != count)) {
        throw bad_input("the prompt has " + std::to_string(count) + " token ids and " +
                            std::to_string(prompt.origin.size()) + " positions",
                        "Pass what Model::prompt() made.");
    }
    state_->position_ids.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t position =
            prompt.contiguous ? static_cast<std::int64_t>(i) : prompt.origin[i];
        state_->position_ids[i] = state_->length + position;
    }
    DecoderInput input;
    input.input_ids = span(prompt.input_ids);
    input.position_ids = span(state_->position_ids);
    input.image_embeds = span(prompt.image_embeds);
    input.visual_positions = span(prompt.visual_positions);
    input.image_lengths = span(prompt.image_lengths);
    input.token_grid = span(prompt.token_grid);
    input.prior = span(prompt.prior);
    input.text_positions = span(prompt.text_positions);
    return state_->run(input);
}

Step Sequence::step(std::int64_t token) {
    if (token < 0 || token >= state_->vocab) {
        throw bad_input("the token id is " + std::to_string(token) + ", expected one below " +
                            std::to_string(state_->vocab),
                        "Pass what Sampler::pick() answered.");
    }
    DecoderInput input;
    input.input_ids = {&token, 1};
    input.position_ids = {&state_->length, 1};
    return state_->run(input);
}

}  // namespace d2export::runtime
