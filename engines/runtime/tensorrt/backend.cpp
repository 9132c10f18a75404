#include <d2export/backend.h>
#include <d2export/error.h>

#include <mutex>

#include "decoder_graph.h"
#include "engine.h"
#include "vision_graph.h"

namespace d2export::runtime {
namespace {

CUstream stream_of(const TensorRtOptions& options) { return static_cast<CUstream>(options.stream); }

std::shared_ptr<const trt::Machine> machine_of(const TensorRtOptions& options) {
    if (options.cuda_graphs < 0) {
        throw bad_input(
            "cuda_graphs is " + std::to_string(options.cuda_graphs) + ", expected at least 0",
            "Pass how many decode steps are kept, or 0 for none.");
    }
    // CUDA comes first: where there is no GPU it says so, and TensorRT crashes.
    auto gpu = std::make_shared<const trt::Gpu>(options.device, stream_of(options));
    const trt::Current current(*gpu);
    auto memory = std::make_shared<const trt::Source>(gpu, options.memory);
    auto library = std::make_shared<const trt::Library>(options.library, options.plugin, memory);
    return std::make_shared<const trt::Machine>(
        trt::Machine{std::move(gpu), std::move(memory), std::move(library), options});
}

class TensorRt final : public Backend {
 public:
    explicit TensorRt(const TensorRtOptions& options) : machine_(machine_of(options)) {}

    std::string name() const override {
        return "TensorRT " + machine_->library->version() + " on " + machine_->gpu->name();
    }

    std::unique_ptr<VisionGraph> open_vision(const Bundle& bundle) const override {
        return trt::open_vision(machine_, bundle);
    }

    std::unique_ptr<DecoderGraph> open_decoder(const Bundle& bundle) const override {
        return trt::open_decoder(machine_, bundle);
    }

    void to_host(const Matrix& from, void* to) const override {
        if (from.place == Place::kHost) {
            Backend::to_host(from, to);
            return;
        }
        const trt::Current current(*machine_->gpu);
        const trt::Stream stream(*machine_->gpu, stream_of(machine_->options));
        stream.copy(to, from.data,
                    static_cast<std::size_t>(from.rows * from.columns * item_bytes(from.type)));
        stream.wait();
    }

 private:
    std::shared_ptr<const trt::Machine> machine_;
};

}  // namespace

std::unique_ptr<Backend> tensorrt(const TensorRtOptions& options) {
    return std::make_unique<TensorRt>(options);
}

}  // namespace d2export::runtime
