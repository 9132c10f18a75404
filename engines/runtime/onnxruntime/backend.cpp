#include <d2export/backend.h>

#include "decoder_graph.h"
#include "vision_graph.h"

namespace d2export::runtime {
namespace {

class OnnxRuntime final : public Backend {
 public:
    explicit OnnxRuntime(const OnnxRuntimeOptions& options)
        : library_(std::make_shared<const ort::Library>(options.library)), options_(options) {}

    std::string name() const override { return "ONNX Runtime " + library_->version(); }

    std::unique_ptr<VisionGraph> open_vision(const Bundle& bundle) const override {
        return ort::open_vision(library_, bundle, options_);
    }

    std::unique_ptr<DecoderGraph> open_decoder(const Bundle& bundle) const override {
        return ort::open_decoder(library_, bundle, options_);
    }

 private:
    std::shared_ptr<const ort::Library> library_;
    OnnxRuntimeOptions options_;
};

}  // namespace

std::unique_ptr<Backend> onnx_runtime(const OnnxRuntimeOptions& options) {
    return std::make_unique<OnnxRuntime>(options);
}

}  // namespace d2export::runtime
