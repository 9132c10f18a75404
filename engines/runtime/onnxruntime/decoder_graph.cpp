#include "decoder_graph.h"

#include <d2export/error.h>

#include <string_view>

#include "value.h"

namespace d2export::runtime::ort {
namespace {

bool starts_with(std::string_view text, std::string_view with) {
    return text.substr(0, with.size()) == with;
}

// Keys and values as ONNX Runtime answered them; and what a call needs room for, so that one of a
// single token makes no vector.
class Past final : public Cache {
 public:
    std::vector<Value> keys_and_values, prompt, outputs;
    std::vector<std::uint8_t> embeds;  // of several images
    std::vector<const OrtValue*> inputs;
    std::vector<OrtValue*> answered;
};

class Graph final : public DecoderGraph {
 public:
    Graph(std::shared_ptr<const Library> library, const Bundle& bundle,
          const OnnxRuntimeOptions& options)
        : session_(std::move(library), bundle, *bundle.manifest().decoder_graph, options),
          text_(bundle.manifest().text) {
        check_cache();
    }

    std::unique_ptr<Cache> start() const override {
        auto past = std::make_unique<Past>();
        for (const ValueSpec& value : session_.spec().inputs) {
            if (is_past(value)) {
                past->keys_and_values.push_back(borrowed(
                    session_, {nullptr, value.type, {1, text_.kv_heads, 0, text_.head_dim()}}));
            }
        }
        past->prompt.reserve(session_.spec().inputs.size());
        past->inputs.reserve(session_.spec().inputs.size());
        past->outputs.reserve(session_.spec().outputs.size());
        past->answered.reserve(session_.spec().outputs.size());
        return past;
    }

    DecoderOutput run(Cache& cache, const DecoderInput& input) const override {
        auto& past = static_cast<Past&>(cache);
        past.inputs.clear();
        past.prompt.clear();
        std::size_t next = 0;
        for (const ValueSpec& value : session_.spec().inputs) {
            if (is_past(value)) {
                past.inputs.push_back(past.keys_and_values[next++].get());
            } else {
                past.prompt.push_back(of(value, input, past.embeds));
                past.inputs.push_back(past.prompt.back().get());
            }
        }
        past.answered.assign(session_.spec().outputs.size(), nullptr);
        session_.run(past.inputs.data(), past.answered.data());
        return taken(past);
    }

 private:
    static bool is_past(const ValueSpec& value) {
        return starts_with(value.name, "past_key_values.");
    }
    static bool is_present(const ValueSpec& value) { return starts_with(value.name, "present."); }

    void check_cache() const {
        std::size_t in = 0, out = 0;
        for (const ValueSpec& value : session_.spec().inputs) {
            in += is_past(value);
        }
        for (const ValueSpec& value : session_.spec().outputs) {
            out += is_present(value);
        }
        if (in != out) {
            throw bad_input(session_.path() + " takes " + std::to_string(in) +
                                " keys and values and answers " + std::to_string(out),
                            "Build the bundle again.");
        }
    }

    // The visual tokens of all images after each other; those of one are not copied.
    Matrix joined(const Span<Matrix>& images, DataType type,
                  std::vector<std::uint8_t>& bytes) const {
        Matrix all{nullptr, type, 0, text_.hidden};
        for (std::int64_t i = 0; i < images.count; ++i) {
            const Matrix& image = images.data[i];
            if (image.type != type || image.place != Place::kHost) {
                const char* const where = image.place == Place::kHost ? "" : " on a GPU";
                throw bad_input(session_.path() + " takes visual tokens of " + name_of(type) +
                                    ", the vision graph answers " + name_of(image.type) + where,
                                "Build the bundle again.");
            }
            all.rows += image.rows;
        }
        if (images.count == 1) {
            return images.data[0];
        }
        bytes.clear();
        for (std::int64_t i = 0; i < images.count; ++i) {
            const Matrix& image = images.data[i];
            const auto* const from = static_cast<const std::uint8_t*>(image.data);
            bytes.insert(bytes.end(), from, from + image.rows * image.columns * item_bytes(type));
        }
        all.data = bytes.data();
        return all;
    }

    Value of(const ValueSpec& value, const DecoderInput& input,
             std::vector<std::uint8_t>& embeds) const {
        if (value.name == "image_embeds") {
            const Matrix all = joined(input.image_embeds, value.type, embeds);
            return borrowed(session_, {all.data, value.type, {all.rows, text_.hidden}});
        }
        return borrowed(session_, given(input, value.name, session_.path()));
    }

    // What the graph answered; keys and values are exchanged when nothing can go wrong any more.
    DecoderOutput taken(Past& past) const {
        past.outputs.clear();
        for (OrtValue* value : past.answered) {
            past.outputs.emplace_back(value,
                                      Release<OrtValue>{session_.library().api().ReleaseValue});
        }
        DecoderOutput output;
        for (std::size_t i = 0; i < past.outputs.size(); ++i) {
            const ValueSpec& spec = session_.spec().outputs[i];
            if (spec.name == "logits") {
                const Answer found =
                    answer(session_, past.outputs[i].get(), "logits", DataType::kFloat32, 2);
                output.logits = {static_cast<const float*>(found.data), found.count};
            } else if (spec.name == "positions") {
                const Answer found =
                    answer(session_, past.outputs[i].get(), "positions", DataType::kInt32, 1);
                output.positions = {static_cast<const std::int32_t*>(found.data), found.count};
            }
        }
        std::size_t next = 0;
        for (std::size_t i = 0; i < past.outputs.size(); ++i) {
            if (is_present(session_.spec().outputs[i])) {
                past.keys_and_values[next++] = std::move(past.outputs[i]);
            }
        }
        return output;
    }

    Session session_;
    TextSpec text_;
};

}  // namespace

std::unique_ptr<DecoderGraph> open_decoder(std::shared_ptr<const Library> library,
                                           const Bundle& bundle,
                                           const OnnxRuntimeOptions& options) {
    return std::make_unique<Graph>(std::move(library), bundle, options);
}

}  // namespace d2export::runtime::ort
