#include "vision_graph.h"

#include <d2export/error.h>

#include <algorithm>

#include "value.h"

namespace d2export::runtime::ort {
namespace {

// What the graph answered, until the tokens are in the language model.
class Output final : public VisionOutput {
 public:
    Output(std::vector<Value> values, Matrix embeds, Span<std::int32_t> kept)
        : values_(std::move(values)), embeds_(embeds), kept_(kept) {}

    Matrix embeds() const override { return embeds_; }
    Span<std::int32_t> kept() const override { return kept_; }

 private:
    std::vector<Value> values_;
    Matrix embeds_;
    Span<std::int32_t> kept_;
};

class Graph final : public VisionGraph {
 public:
    Graph(std::shared_ptr<const Library> library, const Bundle& bundle,
          const OnnxRuntimeOptions& options)
        : session_(std::move(library), bundle, bundle.manifest().vision_graph, options) {}

    std::unique_ptr<VisionOutput> run(const VisionInput& input) const override {
        std::vector<Value> inputs;
        std::vector<const OrtValue*> given;
        for (const ValueSpec& value : session_.spec().inputs) {
            inputs.push_back(of(value.name, input));
            given.push_back(inputs.back().get());
        }
        std::vector<OrtValue*> raw(session_.spec().outputs.size());
        session_.run(given.data(), raw.data());
        std::vector<Value> values;
        for (OrtValue* value : raw) {
            values.emplace_back(value, Release<OrtValue>{session_.library().api().ReleaseValue});
        }
        return answered(std::move(values));
    }

 private:
    Value of(const std::string& name, const VisionInput& input) const {
        const Given numbers = given(input, name, session_.path());
        if (numbers.place != Place::kHost) {
            throw bad_input(name + " lies on a GPU, and this is ONNX Runtime on the CPU",
                            "Pass it in host memory, or use tensorrt().");
        }
        return borrowed(session_, numbers);
    }

    std::unique_ptr<VisionOutput> answered(std::vector<Value> values) const {
        Matrix embeds;
        Span<std::int32_t> kept;
        std::int64_t count = -1;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const ValueSpec& spec = session_.spec().outputs[i];
            if (spec.name == "image_embeds") {
                const Answer found =
                    answer(session_, values[i].get(), "image_embeds", spec.type, 2);
                embeds = {found.data, spec.type, found.sides[0], found.sides[1]};
            } else if (spec.name == "kept_indices") {
                const Answer found =
                    answer(session_, values[i].get(), "kept_indices", DataType::kInt32, 1);
                kept = {static_cast<const std::int32_t*>(found.data), found.count};
            } else if (spec.name == "count") {
                const Answer found =
                    answer(session_, values[i].get(), "count", DataType::kInt32, 1);
                count = found.count == 1 ? *static_cast<const std::int32_t*>(found.data) : 0;
            }
        }
        if (count >= 0) {  // padded: rows behind that many are zeros
            embeds.rows = std::min(embeds.rows, count);
            kept.count = std::min(kept.count, count);
        }
        return std::make_unique<Output>(std::move(values), embeds, kept);
    }

    Session session_;
};

}  // namespace

std::unique_ptr<VisionGraph> open_vision(std::shared_ptr<const Library> library,
                                         const Bundle& bundle, const OnnxRuntimeOptions& options) {
    return std::make_unique<Graph>(std::move(library), bundle, options);
}

}  // namespace d2export::runtime::ort
