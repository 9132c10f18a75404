#include <d2export/error.h>
#include <d2export/model.h>

#include <string>

#include "answering.h"
#include "model_state.h"
#include "prompt_layout.h"
#include "seeing.h"
#include "sequence.h"

namespace d2export::runtime {

Model::Model(const Bundle& bundle, std::shared_ptr<const Backend> backend) {
    auto state = std::make_shared<ModelState>(ModelState{
        bundle, std::move(backend), nullptr, nullptr, std::nullopt, stored_prior(bundle)});
    const Manifest& manifest = bundle.manifest();
    state->vision = state->backend->open_vision(bundle);
    if (manifest.decoder_graph) {
        state->decoder = state->backend->open_decoder(bundle);
    }
    const auto folder = bundle.root() / "processor";
    if (manifest.files.count("processor/tokenizer.json") > 0) {
        bundle.path("processor/tokenizer.json");
        bundle.path("processor/conversation.json");
        if (manifest.scope == "vlm") {
            state->tokenizer.emplace(folder.string(), manifest.text.vocab);
        }
    }
    state_ = std::move(state);
}

Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

const Bundle& Model::bundle() const { return state_->bundle; }

const Tokenizer& Model::tokenizer() const {
    if (!state_->tokenizer) {
        throw bad_input(
            state_->bundle.root().string() +
                " has no tokenizer of a language model, so a prompt cannot be read here",
            "Build it with --scope vlm, from a checkpoint with its tokenizer.");
    }
    return *state_->tokenizer;
}

Sequence Model::start() const {
    if (!state_->decoder) {
        throw bad_input(state_->bundle.root().string() + " has scope '" +
                            state_->bundle.manifest().scope + "', so it has no language model",
                        "Build it with --scope vlm.");
    }
    const TextSpec& text = state_->bundle.manifest().text;
    auto sequence = std::make_unique<SequenceState>();
    sequence->graph = state_->decoder;
    sequence->cache = state_->decoder->start();
    sequence->vocab = text.vocab;
    sequence->limit = text.max_positions;
    return Sequence(std::move(sequence));
}

std::string Model::outside_prior(const std::vector<std::int64_t>& tiles) const {
    return state_->prior.outside_seen(tiles);
}

Seen Model::see(const Image& image, const Matrix& prompt) const {
    return see(prepare(image, state_->bundle.manifest().vision), prompt);
}

Seen Model::see(const Tiles& image, const Matrix& prompt) const {
    const Manifest& manifest = state_->bundle.manifest();
    check_prompt(manifest, prompt);
    return runtime::see(*state_->vision, manifest, image, prompt);
}

void Model::to_host(const Matrix& from, void* to) const { state_->backend->to_host(from, to); }

Prompt Model::prompt(const Encoded& encoded, const std::vector<Tiles>& images) const {
    return prompt_of(*state_, encoded, images);
}

Answer Model::answer(const std::vector<Image>& images, const Request& request) const {
    return answered(*this, images, request);
}

Answer Model::answer(const std::vector<Tiles>& images, const Request& request) const {
    return answered(*this, images, request);
}

}  // namespace d2export::runtime
