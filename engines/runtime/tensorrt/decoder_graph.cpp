#include "decoder_graph.h"

#include <d2export/error.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "lane.h"
#include "past.h"

namespace d2export::runtime::trt {
namespace {

constexpr int kPrefill = 0, kDecode = 1;  // profiles, in the order of the engine's plan
constexpr std::int64_t kRoom = 256;  // positions that memory grows by: most tokens need no more

class Graph final : public DecoderGraph {
 public:
    Graph(std::shared_ptr<const Machine> machine, const Bundle& bundle)
        : engine_(std::move(machine), bundle, "decoder", *bundle.manifest().decoder_graph),
          text_(bundle.manifest().text),
          places_(std::make_shared<Pool<Places>>(
              [this] { return std::make_unique<Places>(engine_.machine(), past_.size()); }, 0)),
          lanes_(lanes_of(engine_)) {
        find_tensors();
    }

    std::unique_ptr<Cache> start() const override {
        const Current current(engine_.gpu());
        return std::make_unique<Past>(places_->take(), past_.size());
    }

    DecoderOutput run(Cache& cache, const DecoderInput& input) const override {
        auto& past = static_cast<Past&>(cache);
        const Current current(engine_.gpu());
        const Pool<Lane>::Taken lane = lanes_->take();
        const Settled settled(engine_.gpu(), lane->stream());
        const bool one_more = input.input_ids.count == 1 && past.lengths[0] > 0;
        lane->use(std::min(one_more ? kDecode : kPrefill, engine_.profiles() - 1));
        if (!one_more) {
            lane->recorded().begin();
        }
        const bool records = one_more && lane->recorded().wanted();
        const Recorded* const recorded = records ? lane->recorded().find(past.key()) : nullptr;
        if (recorded != nullptr) {
            for (const std::size_t tensor : given_) {
                lane->refill(tensor, of(tensor, input));
            }
            recorded->step.launch(lane->stream());
            past.after = recorded->lengths;
            return read(past, lane->stream(), recorded->positions);
        }
        return computed(past, *lane, input, records);
    }

 private:
    void find_tensors() {
        const std::vector<Tensor>& tensors = engine_.tensors();
        std::map<std::string, std::size_t> answered;
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            if (!tensors[i].is_input) {
                answered[tensors[i].name] = i;
            }
        }
        const auto found = [&](const std::string& name) -> std::size_t {
            const auto output = answered.find(name);
            if (output == answered.end()) {
                throw bad_input(engine_.path() + " has no output " + name, "Build it again.");
            }
            return output->second;
        };
        constexpr std::string_view kPast = "past_key_values.";
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            if (tensors[i].is_input && tensors[i].name.compare(0, kPast.size(), kPast) == 0) {
                past_.push_back(i);
                present_.push_back(found("present." + tensors[i].name.substr(kPast.size())));
                engine_.expect(tensors[present_.back()], tensors[i].type);
            } else if (tensors[i].is_input) {
                given_.push_back(i);
            }
        }
        logits_ = found("logits");
        engine_.expect(tensors[logits_], DataType::kFloat32);
        if (answered.count("positions") > 0) {
            positions_ = answered["positions"];
            engine_.expect(tensors[*positions_], DataType::kInt32);
        }
        if (past_.empty()) {
            throw bad_input(engine_.path() + " has no keys and values", "Build it again.");
        }
    }

    DecoderOutput computed(Past& past, Lane& lane, const DecoderInput& input, bool record) const {
        for (const std::size_t tensor : given_) {
            if (engine_.tensors()[tensor].name == "image_embeds") {
                lane.set(tensor, input.image_embeds, text_.hidden);
            } else {
                lane.set(tensor, of(tensor, input));
            }
        }
        for (std::size_t i = 0; i < past_.size(); ++i) {
            lane.set(past_[i], {past.places->held()[i].get(),
                                engine_.tensors()[past_[i]].type,
                                {1, text_.kv_heads, past.lengths[i], text_.head_dim()},
                                Place::kDevice});
        }
        const Ending ending(past.outputs);
        prepare(past, lane);
        const Outputs& outputs = past.outputs;
        if (record && outputs.unknown() != nullptr) {
            throw not_recordable(*outputs.unknown());
        }
        lane.enqueue();
        std::optional<RecordedStep> step;
        if (record && lane.recorded().has_room()) {
            lane.stream().wait();  // a context runs on one stream at a time
            step.emplace(lane.record());
        }
        if (outputs.unknown() != nullptr) {
            lane.stream().wait();  // for its shape
        }
        take_lengths(past, outputs);
        const std::int64_t positions = outputs.positions ? outputs.positions->sides(1).of[0] : 0;
        if (outputs.logits->sides(2).of[1] != text_.vocab) {
            throw bad_input(engine_.path() + " answers " +
                                std::to_string(outputs.logits->sides(2).of[1]) +
                                " logits, expected " + std::to_string(text_.vocab),
                            "Build the engines again.");
        }
        if (step) {
            // Its key has what the step found: where memory is by now.
            lane.recorded().add(past.key(), {std::move(*step), past.after, positions});
        }
        return read(past, lane.stream(), positions);
    }

    void prepare(Past& past, Lane& lane) const {
        Outputs& outputs = past.outputs;
        outputs.logits.emplace(lane, logits_, engine_, past.places->logits);
        if (positions_) {
            outputs.positions.emplace(lane, *positions_, engine_, past.places->positions);
        }
        for (std::size_t i = 0; i < present_.size(); ++i) {
            const std::int64_t room = kRoom * text_.kv_heads * text_.head_dim() *
                                      item_bytes(engine_.tensors()[present_[i]].type);
            outputs.present[i].emplace(lane, present_[i], engine_, past.places->spare()[i],
                                       static_cast<std::size_t>(room));
        }
    }

    Error not_recordable(const Output& output) const {
        return bad_input("cuda_graphs is " + std::to_string(engine_.machine().options.cuda_graphs) +
                             ", and the size of " + output.tensor().name + " of " + engine_.path() +
                             " depends on numbers, so that a step cannot be recorded",
                         "Set cuda_graphs to 0.");
    }

    void take_lengths(Past& past, const Outputs& outputs) const {
        past.after.clear();
        for (const auto& output : outputs.present) {
            const Sides& sides = output->sides(4);
            if (sides.of[0] != 1 || sides.of[1] != text_.kv_heads ||
                sides.of[3] != text_.head_dim()) {
                throw bad_input(engine_.path() + " answers " + output->tensor().name +
                                    " of other sides than the model's",
                                "Build the engines again.");
            }
            past.after.push_back(sides.of[2]);
        }
    }

    // The numbers that the host reads; then keys and values take turns, when nothing can go wrong
    // any more.
    DecoderOutput read(Past& past, const Stream& stream, std::int64_t positions) const {
        Places& places = *past.places;
        const auto logits = static_cast<std::size_t>(text_.vocab) * sizeof(float);
        const auto kept = static_cast<std::size_t>(positions) * sizeof(std::int32_t);
        places.host.reserve(logits + kept);
        auto* const host = static_cast<std::uint8_t*>(places.host.get());
        stream.copy(host, places.logits.get(), logits);
        stream.copy(host + logits, places.positions.get(), kept);
        stream.wait();
        std::swap(past.lengths, past.after);
        places.turn();
        return {{reinterpret_cast<const float*>(host), text_.vocab},
                {reinterpret_cast<const std::int32_t*>(host + logits), positions}};
    }

    // Of a step, which has no visual tokens, and of a prompt but for those.
    Given of(std::size_t tensor, const DecoderInput& input) const {
        const Tensor& spec = engine_.tensors()[tensor];
        if (spec.name == "image_embeds") {
            return {nullptr, spec.type, {0, text_.hidden}};
        }
        return given(input, spec.name, engine_.path());
    }

    Engine engine_;
    TextSpec text_;
    std::vector<std::size_t> past_, present_, given_;  // indices of tensors
    std::size_t logits_ = 0;
    std::optional<std::size_t> positions_;
    std::shared_ptr<Pool<Places>> places_;
    std::shared_ptr<Pool<Lane>> lanes_;
};

}  // namespace

std::unique_ptr<DecoderGraph> open_decoder(std::shared_ptr<const Machine> machine,
                                           const Bundle& bundle) {
    return std::make_unique<Graph>(std::move(machine), bundle);
}

}  // namespace d2export::runtime::trt
