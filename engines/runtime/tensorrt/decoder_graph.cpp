#include "decoder_graph.h"

#include <d2export/error.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "lane.h"
#include "output.h"
#include "places.h"
#include "pool.h"

namespace d2export::runtime::trt {
namespace {

constexpr int kPrefill = 0, kDecode = 1;  // profiles, in the order of the engine's plan
constexpr std::int64_t kRoom = 256;  // positions that memory grows by: most tokens need no more

bool starts_with(std::string_view text, std::string_view with) {
    return text.substr(0, with.size()) == with;
}

// One call's outputs: keys and values in the order of the engine's, and the others.
struct Outputs {
    explicit Outputs(std::size_t count) : present(count) {}
    std::vector<std::optional<Output>> present;
    std::optional<Output> logits, positions;

    void end() noexcept {
        for (auto& output : present) {
            output.reset();
        }
        logits.reset();
        positions.reset();
    }
};

// Keys and values of a sequence, on the GPU.
class Past final : public Cache {
 public:
    Past(Pool<Places>::Taken taken, std::size_t count)
        : places(std::move(taken)), lengths(count), outputs(count) {
        places->begin();
        after.reserve(count);
    }

    Pool<Places>::Taken places;
    std::vector<std::int64_t> lengths;  // of each key and value
    // Of a call; they keep their memory.
    std::vector<std::int64_t> after, key;
    Outputs outputs;
};

// Outputs end before others have the lane.
struct Ending {
    explicit Ending(Outputs& those) : outputs(those) {}
    ~Ending() { outputs.end(); }
    Ending(const Ending&) = delete;
    Ending& operator=(const Ending&) = delete;
    Outputs& outputs;
};

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
        const bool records = one_more && lane->recorded().wanted();
        if (!one_more) {
            lane->recorded().begin();
        }
        if (records) {
            describe(past);
            const Recorded* const recorded = lane->recorded().find(past.key);
            if (recorded != nullptr) {
                for (const std::size_t tensor : given_) {
                    lane->refill(tensor, of(tensor, input));
                }
                recorded->step.launch(lane->stream());
                past.after = recorded->lengths;
                return read(past, lane->stream(), recorded->positions);
            }
        }
        return computed(past, *lane, input, records);
    }

 private:
    void find_tensors() {
        for (std::size_t i = 0; i < engine_.tensors().size(); ++i) {
            const Tensor& tensor = engine_.tensors()[i];
            if (starts_with(tensor.name, "past_key_values.")) {
                past_.push_back(i);
            } else if (tensor.is_input) {
                given_.push_back(i);
            } else if (starts_with(tensor.name, "present.")) {
                present_.push_back(i);
            } else if (tensor.name == "logits") {
                logits_ = i;
            } else if (tensor.name == "positions") {
                positions_ = i;
            }
        }
        const bool pairs =
            std::equal(past_.begin(), past_.end(), present_.begin(), present_.end(),
                       [&](std::size_t in, std::size_t out) {
                           return engine_.tensors()[in].name.substr(sizeof "past_key_values" - 1) ==
                                      engine_.tensors()[out].name.substr(sizeof "present" - 1) &&
                                  engine_.tensors()[in].type == engine_.tensors()[out].type;
                       });
        if (past_.empty() || !pairs || !logits_ ||
            engine_.tensors()[*logits_].type != DataType::kFloat32) {
            throw bad_input(engine_.path() +
                                " has not the keys, values and logits of a decoder that d2export "
                                "builds",
                            "Build the engines again.");
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
        if (record) {
            check_recordable(outputs);
        }
        lane.enqueue();
        std::optional<RecordedStep> step;
        if (record && lane.recorded().has_room()) {
            lane.stream().wait();  // a context runs on one stream at a time
            step.emplace(lane.record());
        }
        if (!outputs.logits->known() || (outputs.positions && !outputs.positions->known())) {
            lane.stream().wait();  // for their shapes
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
            describe(past);  // where memory is by now
            lane.recorded().add(past.key, {std::move(*step), past.after, positions});
        }
        return read(past, lane.stream(), positions);
    }

    void prepare(Past& past, Lane& lane) const {
        Outputs& outputs = past.outputs;
        outputs.logits.emplace(lane, *logits_, engine_, past.places->logits);
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

    void check_recordable(const Outputs& outputs) const {
        const auto check = [&](const Output& output) {
            if (!output.known()) {
                throw bad_input(
                    "cuda_graphs is " + std::to_string(engine_.machine().options.cuda_graphs) +
                        ", and the size of " + output.tensor().name + " of " + engine_.path() +
                        " depends on numbers, so that a step cannot "
                        "be recorded",
                    "Set cuda_graphs to 0.");
            }
        };
        check(*outputs.logits);
        if (outputs.positions) {
            check(*outputs.positions);
        }
        for (const auto& output : outputs.present) {
            check(*output);
        }
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

    // What a recorded step depends on: the lengths of the past, where that is, and where its
    // answer goes and how much room is there.
    static void describe(Past& past) {
        past.key = past.lengths;
        for (const void* memory : {past.places->logits.get(), past.places->positions.get()}) {
            past.key.push_back(reinterpret_cast<std::intptr_t>(memory));
        }
        for (const DeviceBuffer& held : past.places->held()) {
            past.key.push_back(reinterpret_cast<std::intptr_t>(held.get()));
        }
        for (const DeviceBuffer& spare : past.places->spare()) {
            past.key.push_back(reinterpret_cast<std::intptr_t>(spare.get()));
            past.key.push_back(static_cast<std::int64_t>(spare.size()));
        }
    }

    Given of(std::size_t tensor, const DecoderInput& input) const {
        const std::string& name = engine_.tensors()[tensor].name;
        const auto numbers = [](const Span<std::int64_t>& span) {
            return Given{span.data, DataType::kInt64, {span.count}};
        };
        const auto row = [](const Span<std::int64_t>& span) {
            return Given{span.data, DataType::kInt64, {1, span.count}};
        };
        if (name == "input_ids") {
            return row(input.input_ids);
        }
        if (name == "position_ids") {
            return row(input.position_ids);
        }
        if (name == "image_embeds") {  // of a step, which has none
            return {nullptr, engine_.tensors()[tensor].type, {0, text_.hidden}};
        }
        if (name == "visual_positions") {
            return numbers(input.visual_positions);
        }
        if (name == "image_lengths") {
            return numbers(input.image_lengths);
        }
        if (name == "text_positions") {
            return numbers(input.text_positions);
        }
        if (name == "token_grid") {
            return {input.token_grid.data, DataType::kFloat32, {input.token_grid.count / 2, 2}};
        }
        if (name == "prior") {
            return {input.prior.data, DataType::kFloat32, {input.prior.count}};
        }
        throw bad_input(engine_.path() + " has the input " + name + ", which is not known here",
                        "Use the runtime library of the d2export that built the bundle.");
    }

    Engine engine_;
    TextSpec text_;
    std::vector<std::size_t> past_, present_, given_;  // indices of tensors
    std::optional<std::size_t> logits_, positions_;
    std::shared_ptr<Pool<Places>> places_;
    std::shared_ptr<Pool<Lane>> lanes_;
};

}  // namespace

std::unique_ptr<DecoderGraph> open_decoder(std::shared_ptr<const Machine> machine,
                                           const Bundle& bundle) {
    return std::make_unique<Graph>(std::move(machine), bundle);
}

}  // namespace d2export::runtime::trt
