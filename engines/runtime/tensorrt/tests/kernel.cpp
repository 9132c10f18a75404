#include "kernel.h"

#include <array>

#include "acting.h"
#include "gpu.h"
#include "stand_in.h"

namespace stand_in {
namespace {

using Mark = std::array<unsigned char, 16>;

Mark next_mark() {
    static std::atomic<std::uint64_t> runs{0};
    const std::uint64_t run = ++runs;
    Mark mark{};
    for (std::size_t i = 0; i < 8; ++i) mark[i] = static_cast<unsigned char>(run >> (8 * i));
    return mark;
}

// One run of a context at a time.
class Turn {
 public:
    explicit Turn(Turns& turns) : turns_(turns) {
        if (turns_.running.exchange(true)) {
            throw std::string("two runs of one execution context at the same time");
        }
    }
    ~Turn() { turns_.running = false; }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

 private:
    Turns& turns_;
};

template <typename Function>
void each(const EngineText& engine, bool inputs, const Function& function) {
    std::size_t index = 0;
    for (const Tensor& tensor : engine.tensors) {
        if (tensor.is_input == inputs) function(tensor, index++);
    }
}

Numbers numbers_at(const Tensor& tensor, const Place& place) {
    if (tensor.on_host) return {place.shape, place.host};
    Numbers found{place.shape, {}};
    found.bytes.resize(bytes_of(tensor.type, place.shape));
    if (!found.bytes.empty() &&
        stand_in_read(place.address, found.bytes.size(), found.bytes.data()) == 0) {
        throw tensor.name + " is not there any more";
    }
    return found;
}

void run(const Kernel& kernel) {
    if (kernel.turns->state != kernel.state) {
        // NVIDIA: "Modifying the context from which the graph was captured results in undefined
        // behavior when executing the graph." Of use all the same, and so not refused here.
        told("stale " + kernel.engine->graph_name());
    }
    const std::vector<Numbers> found = computed(kernel);
    each(*kernel.engine, false, [&](const Tensor& tensor, std::size_t index) {
        const Place& place = kernel.outputs[index];
        if (found[index].shape != place.shape) {
            throw tensor.name + " is " + text(dims_of(found[index].shape)) +
                ", and the engine said " + text(dims_of(place.shape));
        }
        write(tensor, place.address, found[index]);
    });
}

int work(void* user) {
    const Kernel& kernel = *static_cast<const Kernel*>(user);
    try {
        run(kernel);
        return CUDA_SUCCESS;
    } catch (const std::string& why) {
        stand_in_fails((kernel.engine->graph_name() + ": " + why).c_str());
        return CUDA_ERROR_LAUNCH_FAILED;
    }
}

}  // namespace

std::vector<Numbers> computed(const Kernel& kernel) {
    const Turn turn(*kernel.turns);
    const Mark mark = next_mark();
    if (stand_in_write(kernel.activations, sizeof mark, mark.data()) == 0 ||
        stand_in_has(kernel.activations, kernel.activation_bytes) == 0) {
        throw std::string("the context's memory is not there any more");
    }
    std::vector<Numbers> inputs;
    each(*kernel.engine, true, [&](const Tensor& tensor, std::size_t index) {
        inputs.push_back(numbers_at(tensor, kernel.inputs[index]));
    });
    std::vector<Numbers> found = kernel.computation->run(inputs);
    Mark now{};
    if (stand_in_read(kernel.activations, sizeof now, now.data()) == 0 || now != mark) {
        throw std::string("another run wrote into the memory of this context's activations");
    }
    return found;
}

void write(const Tensor& tensor, CUdeviceptr address, const Numbers& numbers) {
    if (!numbers.bytes.empty() &&
        stand_in_write(address, numbers.bytes.size(), numbers.bytes.data()) == 0) {
        throw tensor.name + " has no memory";
    }
}

int launch(CUstream stream, Kernel kernel) {
    auto owned = std::make_unique<Kernel>(std::move(kernel));
    return stand_in_launch(
        stream, work, [](void* user) { std::unique_ptr<Kernel>(static_cast<Kernel*>(user)); },
        owned.release());
}

}  // namespace stand_in
