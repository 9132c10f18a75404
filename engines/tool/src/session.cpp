#include "session.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "versions.h"

namespace d2export::tool {
namespace {

std::vector<std::int64_t> sizes_of(const nvinfer1::Dims& dims) {
    return {dims.d, dims.d + std::max(dims.nbDims, 0)};
}

// TensorRT 8.6 has no int64: what ONNX gives that type is int32 in its engines.
Array narrowed(const std::string& name, Array array) {
    const std::size_t count = array.bytes.size() / sizeof(std::int64_t);
    std::string bytes(count * sizeof(std::int32_t), '\0');
    for (std::size_t index = 0; index < count; ++index) {
        std::int64_t value = 0;
        std::memcpy(&value, array.bytes.data() + index * sizeof value, sizeof value);
        if (value < std::numeric_limits<std::int32_t>::min() ||
            value > std::numeric_limits<std::int32_t>::max()) {
            throw usage("input " + name + " holds " + std::to_string(value) +
                            ", and the engine takes int32",
                        "Pass values that fit, or use TensorRT 10 or newer.");
        }
        const auto small = static_cast<std::int32_t>(value);
        std::memcpy(bytes.data() + index * sizeof small, &small, sizeof small);
    }
    return {"<i4", std::move(array.shape), std::move(bytes)};
}

}  // namespace

Session::Session(const Libraries& libraries, Log& log, const std::string& engine,
                 bool allow_host_code, std::int64_t profile)
    : log_(log), profile_(static_cast<std::int32_t>(profile)), runtime_(libraries.runtime(log)) {
    runtime_->setEngineHostCodeAllowed(allow_host_code);
    engine_.reset(runtime_->deserializeCudaEngine(engine.data(), engine.size()));
    if (engine_ == nullptr) {
        throw log.failure("TensorRT " + text_of(libraries.version()) + " cannot read the engine",
                          {},
                          "An engine runs with the TensorRT and GPU it was built with, and needs "
                          "its --plugin.");
    }
    const std::int32_t profiles = engine_->getNbOptimizationProfiles();
    if (profile < 0 || profile >= profiles) {
        throw usage("--profile is " + std::to_string(profile) + ", the engine has " +
                        std::to_string(profiles) + ", counted from 0",
                    "Pass one of them: engines/plan.json names them in this order.");
    }
    for (std::int32_t index = 0; index < engine_->getNbIOTensors(); ++index) {
        const char* const name = engine_->getIOTensorName(index);
        tensors_.push_back({name, engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT,
                            engine_->getTensorDataType(name),
                            engine_->getTensorLocation(name) == nvinfer1::TensorLocation::kHOST});
    }
    context_.reset(engine_->createExecutionContext());
    if (context_ == nullptr) throw log.failure("TensorRT cannot run the engine");
    if (!context_->setOptimizationProfileAsync(profile_, stream_.get())) {
        throw log.failure("TensorRT refuses profile " + std::to_string(profile));
    }
    stream_.wait();
}

std::vector<std::int64_t> Session::limit(const Tensor& tensor,
                                         nvinfer1::OptProfileSelector which) const {
    return sizes_of(engine_->getProfileShape(tensor.name.c_str(), profile_, which));
}

std::string Session::takes() const {
    std::string text = "The engine takes:";
    for (const Tensor& tensor : tensors_) {
        if (!tensor.is_input) continue;
        text += "\n    " + tensor.name + " " + element_of(tensor.type).name + " " +
                text_of(limit(tensor, nvinfer1::OptProfileSelector::kMIN)) + " to " +
                text_of(limit(tensor, nvinfer1::OptProfileSelector::kMAX));
    }
    return text;
}

void Session::bind(Tensor& tensor, std::size_t bytes) {
    void* address = nullptr;
    if (tensor.on_host) {
        tensor.host.resize(std::max<std::size_t>(bytes, 1));
        address = tensor.host.data();
    } else {
        tensor.memory = std::make_unique<DeviceMemory>(bytes);
        address = tensor.memory->address();
    }
    if (!context_->setTensorAddress(tensor.name.c_str(), address)) {
        throw log_.failure("TensorRT refuses the memory of " + tensor.name);
    }
}

void Session::set_input(Tensor& tensor, Array array) {
    const Element element = element_of(tensor.type);
    const std::string descr = element.descr;
    if (descr == "<i4" && array.descr == "<i8") array = narrowed(tensor.name, std::move(array));
    const auto low = limit(tensor, nvinfer1::OptProfileSelector::kMIN);
    const auto high = limit(tensor, nvinfer1::OptProfileSelector::kMAX);
    bool fits = array.descr == descr && array.shape.size() == low.size();
    for (std::size_t axis = 0; fits && axis < low.size(); ++axis) {
        fits = low[axis] <= array.shape[axis] && array.shape[axis] <= high[axis];
    }
    if (!fits) {
        throw usage("input " + tensor.name + " is " + array.descr + " " + text_of(array.shape) +
                        ", expected " + descr + " " + text_of(low) + " to " + text_of(high) +
                        " in profile " + std::to_string(profile_),
                    takes());
    }
    nvinfer1::Dims dims{};
    for (const std::int64_t size : array.shape) {
        dims.d[dims.nbDims++] = static_cast<std::decay_t<decltype(dims.d[0])>>(size);
    }
    bind(tensor, array.bytes.size());
    tensor.shape = std::move(array.shape);
    if (tensor.on_host) {
        std::memcpy(tensor.host.data(), array.bytes.data(), array.bytes.size());
    } else {
        // On the stream that runs the engine, which does not wait for others.
        check(cudaMemcpyAsync(tensor.memory->address(), array.bytes.data(), array.bytes.size(),
                              cudaMemcpyHostToDevice, stream_.get()),
              "the copy of an input");
        stream_.wait();
    }
    if (!context_->setInputShape(tensor.name.c_str(), dims)) {
        throw log_.failure("TensorRT refuses the shape " + text_of(tensor.shape) + " of input " +
                           tensor.name);
    }
}

void Session::make_outputs() {
    for (Tensor& tensor : tensors_) {
        if (tensor.is_input) continue;
        tensor.shape = sizes_of(context_->getTensorShape(tensor.name.c_str()));
        if (std::any_of(tensor.shape.begin(), tensor.shape.end(), [](auto n) { return n < 0; })) {
            throw log_.failure("the shape of output " + tensor.name +
                               " is not known before the engine runs: " + text_of(tensor.shape));
        }
        bind(tensor,
             static_cast<std::size_t>(elements_of(tensor.shape)) * element_of(tensor.type).bytes);
    }
}

void Session::set_inputs(const std::map<std::string, Array>& inputs) {
    for (Tensor& tensor : tensors_) {
        if (!tensor.is_input) continue;
        const auto found = inputs.find(tensor.name);
        if (found == inputs.end()) throw usage("input " + tensor.name + " is missing", takes());
        set_input(tensor, found->second);
    }
    for (const auto& [name, array] : inputs) {
        const bool known = std::any_of(tensors_.begin(), tensors_.end(), [&](const Tensor& tensor) {
            return tensor.is_input && tensor.name == name;
        });
        if (!known) throw usage("the engine has no input " + name, takes());
    }
    make_outputs();
}

void Session::enqueue() {
    if (!context_->enqueueV3(stream_.get())) throw log_.failure("TensorRT cannot run the engine");
}

std::map<std::string, Array> Session::outputs() const {
    std::map<std::string, Array> found;
    for (const Tensor& tensor : tensors_) {
        if (tensor.is_input) continue;
        const Element element = element_of(tensor.type);
        const auto bytes = static_cast<std::size_t>(elements_of(tensor.shape)) * element.bytes;
        Array array{element.descr, tensor.shape, std::string(bytes, '\0')};
        if (tensor.on_host) {
            array.bytes = tensor.host.substr(0, bytes);
        } else {
            check(cudaMemcpy(array.bytes.data(), tensor.memory->address(), bytes,
                             cudaMemcpyDeviceToHost),
                  "the copy of an output");
        }
        found.emplace(tensor.name, std::move(array));
    }
    return found;
}

std::int64_t Session::activation_bytes() const { return device_memory(*engine_); }

}  // namespace d2export::tool
