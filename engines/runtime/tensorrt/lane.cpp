#include "lane.h"

#include <d2export/error.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "log.h"
#include "versions.h"

namespace d2export::runtime::trt {
namespace {

std::string text_of(const std::int64_t* sides, std::size_t rank) {
    std::string text;
    for (std::size_t i = 0; i < rank; ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(sides[i]);
    }
    return "[" + text + "]";
}

Sides sides_of(const nvinfer1::Dims& dims) {
    Sides sides;
    for (int i = 0; i < dims.nbDims && sides.rank < kMaxRank; ++i) {
        sides.of[sides.rank++] = dims.d[i];
    }
    return sides;
}

std::string text_of(const Sides& sides) { return text_of(sides.of.data(), sides.rank); }

}  // namespace

Lane::Lane(const Engine& engine)
    : engine_(engine),
      stream_(engine.gpu(), static_cast<CUstream>(engine.machine().options.stream)),
      recording_(engine.gpu()),
      activations_(engine.machine().memory),
      recorded_(static_cast<std::size_t>(engine.machine().options.cuda_graphs)) {
    // The contexts of all profiles share memory: one of them runs at a time.
    const std::size_t bytes = activation_bytes(engine.get());
    activations_.reserve(bytes);
    for (int profile = 0; profile < engine.profiles(); ++profile) {
        Log::only().clear();
        contexts_.push_back(new_context(engine.get()));
        nvinfer1::IExecutionContext* const context = contexts_.back().get();
        if (context == nullptr) {
            throw engine.failure("make a context of");
        }
        set_activations(*context, activations_.get(), activations_.size());
        if (!context->setOptimizationProfileAsync(profile, stream_.get())) {
            throw engine.failure("use profile " + std::to_string(profile) + " of");
        }
    }
    stream_.wait();
    for (std::size_t i = 0; i < engine.tensors().size(); ++i) {
        inputs_.emplace_back(engine.machine().memory);
    }
}

Lane::~Lane() {
    const Current current(engine_.gpu());
    contexts_.clear();  // in the CUDA context that they were made in
}

void Lane::use(int profile) { profile_ = profile; }

void Lane::set(std::size_t tensor, const Given& given) {
    const Tensor& spec = engine_.tensors()[tensor];
    const std::int64_t count = given.sides.elements();
    if (given.place == Place::kDevice && given.type == spec.type && count > 0) {
        tell(tensor, given.data, given.sides);
        return;
    }
    const void* const numbers = in_type(tensor, given);
    const std::size_t bytes = static_cast<std::size_t>(count * item_bytes(spec.type));
    if (spec.on_host) {
        std::vector<std::uint8_t>& host = inputs_[tensor].host;
        if (numbers != host.data()) {
            const auto* const from = static_cast<const std::uint8_t*>(numbers);
            host.assign(from, from + bytes);
        }
        host.resize(std::max(bytes, std::size_t{1}));
        tell(tensor, host.data(), given.sides);
        return;
    }
    void* const memory = room(tensor, bytes);
    stream_.copy(memory, numbers, bytes);
    tell(tensor, memory, given.sides);
}

void Lane::set(std::size_t tensor, const Span<Matrix>& parts, std::int64_t columns) {
    const Tensor& spec = engine_.tensors()[tensor];
    std::int64_t rows = 0;
    for (std::int64_t i = 0; i < parts.count; ++i) {
        const Matrix& part = parts.data[i];
        if (part.type != spec.type || part.columns != columns) {
            throw bad_input(engine_.path() + " takes " + spec.name + " of " + name_of(spec.type) +
                                " and " + std::to_string(columns) + " columns, given are " +
                                name_of(part.type) + " and " + std::to_string(part.columns),
                            "Build the bundle again, or pass what its vision graph answered.");
        }
        rows += part.rows;
    }
    if (parts.count == 1) {
        const Matrix& only = parts.data[0];
        set(tensor, {only.data, only.type, {rows, columns}, only.place});
        return;
    }
    const auto row_bytes = static_cast<std::size_t>(columns * item_bytes(spec.type));
    auto* to = static_cast<std::uint8_t*>(room(tensor, static_cast<std::size_t>(rows) * row_bytes));
    tell(tensor, to, {rows, columns});
    for (std::int64_t i = 0; i < parts.count; ++i) {
        const std::size_t bytes = static_cast<std::size_t>(parts.data[i].rows) * row_bytes;
        stream_.copy(to, parts.data[i].data, bytes);
        to += bytes;
    }
}

void Lane::refill(std::size_t tensor, const Given& given) {
    if (!engine_.tensors()[tensor].on_host) {
        const void* const numbers = in_type(tensor, given);
        stream_.copy(inputs_[tensor].device.get(), numbers,
                     static_cast<std::size_t>(given.sides.elements() *
                                              item_bytes(engine_.tensors()[tensor].type)));
    }
}

// Numbers in the type of the engine: TensorRT before 10 has no int64.
const void* Lane::in_type(std::size_t tensor, const Given& given) {
    const Tensor& spec = engine_.tensors()[tensor];
    const std::int64_t count = given.sides.elements();
    if (given.type == spec.type || count == 0) {
        return given.data;
    }
    if (given.type != DataType::kInt64 || spec.type != DataType::kInt32) {
        throw bad_input(engine_.path() + " takes " + spec.name + " of " + name_of(spec.type) +
                            ", given are " + name_of(given.type),
                        "Build the engines again.");
    }
    const auto* const wide = static_cast<const std::int64_t*>(given.data);
    std::vector<std::uint8_t>& host = inputs_[tensor].host;
    host.resize(static_cast<std::size_t>(count) * sizeof(std::int32_t));
    for (std::int64_t i = 0; i < count; ++i) {
        // Ids, positions and lengths: all below the context's length or the vocabulary's.
        const auto narrow = static_cast<std::int32_t>(wide[i]);
        std::memcpy(host.data() + static_cast<std::size_t>(i) * sizeof narrow, &narrow,
                    sizeof narrow);
    }
    return host.data();
}

void* Lane::room(std::size_t tensor, std::size_t bytes) {
    DeviceBuffer& buffer = inputs_[tensor].device;
    if (buffer.reserve(bytes)) {
        recorded_.clear();
    }
    return buffer.get();
}

void Lane::tell(std::size_t tensor, const void* address, const Sides& sides) {
    const Tensor& spec = engine_.tensors()[tensor];
    const auto index = static_cast<std::size_t>(profile_);
    const Sides low = sides_of(spec.low[index]), high = sides_of(spec.high[index]);
    nvinfer1::Dims dims{};
    bool fits = sides.rank == low.rank;
    for (std::size_t i = 0; fits && i < sides.rank; ++i) {
        fits = low.of[i] <= sides.of[i] && sides.of[i] <= high.of[i];
        dims.d[dims.nbDims++] = static_cast<Size>(sides.of[i]);
    }
    if (!fits) {
        throw bad_input(spec.name + " has shape " + text_of(sides) + ", the engine " +
                            engine_.path() + " takes " + text_of(low) + " to " + text_of(high),
                        "Use fewer or smaller pictures, or a shorter prompt or answer; "
                        "docs/engines.md has the sizes that engines are built for.");
    }
    Log::only().clear();
    if (!context().setInputShape(spec.name.c_str(), dims) ||
        !context().setTensorAddress(spec.name.c_str(), const_cast<void*>(address))) {
        throw engine_.failure("take the input " + spec.name + " of");
    }
}

Sides Lane::shape(std::size_t tensor) const {
    const Tensor& spec = engine_.tensors()[tensor];
    return sides_of(context().getTensorShape(spec.name.c_str()));
}

void Lane::to(std::size_t tensor, void* memory) {
    const Tensor& spec = engine_.tensors()[tensor];
    if (!context().setTensorAddress(spec.name.c_str(), memory)) {
        throw engine_.failure("write the output " + spec.name + " of");
    }
}

void Lane::to(std::size_t tensor, nvinfer1::IOutputAllocator& allocator) {
    const Tensor& spec = engine_.tensors()[tensor];
    if (!context().setOutputAllocator(spec.name.c_str(), &allocator)) {
        throw engine_.failure("write the output " + spec.name + " of");
    }
}

void Lane::forget(std::size_t tensor) noexcept {
    context().setOutputAllocator(engine_.tensors()[tensor].name.c_str(), nullptr);
}

void Lane::enqueue(CUstream stream) {
    Log::only().clear();
    if (!context().enqueueV3(reinterpret_cast<cudaStream_t>(stream))) {
        throw engine_.failure("run");
    }
}

nvinfer1::IExecutionContext& Lane::context() const {
    return *contexts_[static_cast<std::size_t>(profile_)];
}

std::shared_ptr<Pool<Lane>> lanes_of(const Engine& engine) {
    return std::make_shared<Pool<Lane>>([&engine] { return std::make_unique<Lane>(engine); },
                                        kProfilesAreShared ? 0 : 1);
}

RecordedStep Lane::record() {
    const Gpu& gpu = engine_.gpu();
    const Driver& driver = gpu.driver();
    gpu.check(driver.stream_begin_capture(recording_.get(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
              "record a decode step");
    CUgraph graph = nullptr;
    try {
        enqueue(recording_.get());
    } catch (...) {
        driver.stream_end_capture(recording_.get(), &graph);
        if (graph != nullptr) {
            driver.graph_destroy(graph);
        }
        throw;
    }
    gpu.check(driver.stream_end_capture(recording_.get(), &graph), "record a decode step");
    CUgraphExec ready = nullptr;
    const CUresult made = driver.graph_instantiate(&ready, graph, 0);
    driver.graph_destroy(graph);
    gpu.check(made, "prepare a decode step as a CUDA graph");
    return RecordedStep(gpu, ready);
}

}  // namespace d2export::runtime::trt
