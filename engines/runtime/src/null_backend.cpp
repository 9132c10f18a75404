// A backend that computes nothing, in the shapes of one that does.
#include <d2export/backend.h>
#include <d2export/error.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace d2export::runtime {
namespace {

// How many of `tokens` stay.
std::int64_t kept_of(const PruningSpec& pruning, std::int64_t tokens) {
    const std::int64_t share =
        std::max<std::int64_t>(1, tokens * pruning.keep_permille.value_or(1000) / 1000);
    return std::min(pruning.keep.value_or(pruning.max_keep.value_or(share)), tokens);
}

class NullOutput final : public VisionOutput {
 public:
    NullOutput(std::int64_t tokens, std::int64_t hidden, bool prunes)
        : embeds_(static_cast<std::size_t>(tokens * hidden)),
          kept_(static_cast<std::size_t>(prunes ? tokens : 0)),
          tokens_(tokens),
          hidden_(hidden) {
        std::iota(kept_.begin(), kept_.end(), 0);
    }

    Matrix embeds() const override {
        return {embeds_.data(), DataType::kFloat32, tokens_, hidden_};
    }
    Span<std::int32_t> kept() const override {
        return {kept_.data(), static_cast<std::int64_t>(kept_.size())};
    }

 private:
    std::vector<float> embeds_;
    std::vector<std::int32_t> kept_;
    std::int64_t tokens_, hidden_;
};

class NullVision final : public VisionGraph {
 public:
    explicit NullVision(const Manifest& manifest)
        : pruning_(manifest.pruning),
          per_tile_(manifest.vision.tokens_per_tile()),
          hidden_(manifest.text.hidden) {}

    std::unique_ptr<VisionOutput> run(const VisionInput& input) const override {
        const std::int64_t tokens = input.tiles * per_tile_;
        const bool prunes = pruning_.in_vision;
        return std::make_unique<NullOutput>(prunes ? kept_of(pruning_, tokens) : tokens, hidden_,
                                            prunes);
    }

 private:
    PruningSpec pruning_;
    std::int64_t per_tile_, hidden_;
};

class NullCache final : public Cache {
 public:
    std::vector<float> logits;
    std::vector<std::int32_t> positions;
};

class NullDecoder final : public DecoderGraph {
 public:
    NullDecoder(const Manifest& manifest, std::int64_t token)
        : pruning_(manifest.pruning), vocab_(manifest.text.vocab), token_(token) {
        if (token < 0 || token >= vocab_) {
            throw bad_input("the null backend's token is " + std::to_string(token) +
                                ", expected an id below " + std::to_string(vocab_),
                            "Pass an id of the model's vocabulary.");
        }
    }

    std::unique_ptr<Cache> start() const override {
        auto cache = std::make_unique<NullCache>();
        cache->logits.resize(static_cast<std::size_t>(vocab_));
        cache->logits[static_cast<std::size_t>(token_)] = 1;
        return cache;
    }

    DecoderOutput run(Cache& cache, const DecoderInput& input) const override {
        auto& own = static_cast<NullCache&>(cache);
        DecoderOutput output;
        output.logits = {own.logits.data(), vocab_};
        if (pruning_.in_decoder) {
            own.positions.resize(static_cast<std::size_t>(input.input_ids.count));
            std::iota(own.positions.begin(), own.positions.end(), 0);
            output.positions = {own.positions.data(), input.input_ids.count};
        }
        return output;
    }

 private:
    PruningSpec pruning_;
    std::int64_t vocab_, token_;
};

class Null final : public Backend {
 public:
    explicit Null(std::int64_t token) : token_(token) {}

    std::string name() const override { return "none"; }
    std::unique_ptr<VisionGraph> open_vision(const Bundle& bundle) const override {
        return std::make_unique<NullVision>(bundle.manifest());
    }
    std::unique_ptr<DecoderGraph> open_decoder(const Bundle& bundle) const override {
        return std::make_unique<NullDecoder>(bundle.manifest(), token_);
    }

 private:
    std::int64_t token_;
};

}  // namespace

std::unique_ptr<Backend> null_backend(std::int64_t token) { return std::make_unique<Null>(token); }

}  // namespace d2export::runtime
