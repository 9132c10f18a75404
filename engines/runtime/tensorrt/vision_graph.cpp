#include "vision_graph.h"

#include <algorithm>
#include <optional>

#include "lane.h"
#include "output.h"
#include "pool.h"

namespace d2export::runtime::trt {
namespace {

// Memory for what the engine answers about one picture.
struct Answered {
    explicit Answered(const Machine& machine)
        : embeds(machine.memory), kept(machine.memory), count(machine.memory), host(machine.gpu) {}
    DeviceBuffer embeds, kept, count;
    HostBuffer host;  // of the kept indices, and behind them how many count
};

// What the engine answered, until its memory is wanted for the next picture.
class Seen final : public VisionOutput {
 public:
    Seen(Pool<Answered>::Taken memory, Matrix embeds, Span<std::int32_t> kept)
        : memory_(std::move(memory)), embeds_(embeds), kept_(kept) {}

    Matrix embeds() const override { return embeds_; }
    Span<std::int32_t> kept() const override { return kept_; }

 private:
    Pool<Answered>::Taken memory_;
    Matrix embeds_;
    Span<std::int32_t> kept_;
};

class Graph final : public VisionGraph {
 public:
    Graph(std::shared_ptr<const Machine> machine, const Bundle& bundle)
        : engine_(std::move(machine), bundle, "vision", bundle.manifest().vision_graph),
          answers_(std::make_shared<Pool<Answered>>(
              [&machine = engine_.machine()] { return std::make_unique<Answered>(machine); }, 0)),
          lanes_(lanes_of(engine_)) {
        for (const Tensor& tensor : engine_.tensors()) {
            if (tensor.name == "kept_indices" || tensor.name == "count") {
                engine_.expect(tensor, DataType::kInt32);
            }
        }
    }

    std::unique_ptr<VisionOutput> run(const VisionInput& input) const override {
        const Current current(engine_.gpu());
        Pool<Answered>::Taken memory = answers_->take();
        const Pool<Lane>::Taken lane = lanes_->take();
        const Settled settled(engine_.gpu(), lane->stream());
        lane->use(0);
        std::optional<Output> embeds, kept, count;
        for (std::size_t i = 0; i < engine_.tensors().size(); ++i) {
            if (engine_.tensors()[i].is_input) {
                lane->set(i, given(input, engine_.tensors()[i].name, engine_.path()));
            }
        }
        for (std::size_t i = 0; i < engine_.tensors().size(); ++i) {
            const std::string& name = engine_.tensors()[i].name;
            if (name == "image_embeds") {
                embeds.emplace(*lane, i, engine_, memory->embeds);
            } else if (name == "kept_indices") {
                kept.emplace(*lane, i, engine_, memory->kept);
            } else if (name == "count") {
                count.emplace(*lane, i, engine_, memory->count);
            }
        }
        lane->enqueue();
        return answered(std::move(memory), lane->stream(), embeds.value(), kept, count);
    }

 private:
    // Which tokens stay is read by the host: they are placed in a prompt.
    static std::unique_ptr<VisionOutput> answered(Pool<Answered>::Taken memory,
                                                  const Stream& stream, const Output& embeds,
                                                  const std::optional<Output>& kept,
                                                  const std::optional<Output>& count) {
        if (kept && !kept->known()) {
            stream.wait();  // for its shape
        }
        const std::size_t indices = kept ? kept->bytes() : 0;
        memory->host.reserve(indices + sizeof(std::int32_t));
        auto* const host = static_cast<std::uint8_t*>(memory->host.get());
        if (kept) {
            stream.copy(host, kept->buffer().get(), indices);
        }
        if (count) {
            stream.copy(host + indices, count->buffer().get(), sizeof(std::int32_t));
        }
        stream.wait();
        const Sides& sides = embeds.sides(2);
        Matrix matrix{embeds.buffer().get(), embeds.tensor().type, sides.of[0], sides.of[1],
                      Place::kDevice};
        Span<std::int32_t> span;
        if (kept) {
            span = {reinterpret_cast<const std::int32_t*>(host), kept->sides(1).of[0]};
        }
        if (count) {  // padded: rows behind that many are zeros
            const std::int32_t filled = *reinterpret_cast<const std::int32_t*>(host + indices);
            matrix.rows = std::min<std::int64_t>(matrix.rows, std::max(filled, 0));
            span.count = std::min<std::int64_t>(span.count, std::max(filled, 0));
        }
        return std::make_unique<Seen>(std::move(memory), matrix, span);
    }

    Engine engine_;
    std::shared_ptr<Pool<Answered>> answers_;
    std::shared_ptr<Pool<Lane>> lanes_;
};

}  // namespace

std::unique_ptr<VisionGraph> open_vision(std::shared_ptr<const Machine> machine,
                                         const Bundle& bundle) {
    return std::make_unique<Graph>(std::move(machine), bundle);
}

}  // namespace d2export::runtime::trt
