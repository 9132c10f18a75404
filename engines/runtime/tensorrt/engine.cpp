#include "engine.h"

#include <d2export/engines.h>
#include <d2export/error.h>

#include <algorithm>

#include "log.h"
#include "mapped_file.h"
#include "versions.h"

namespace d2export::runtime::trt {
namespace {

constexpr const char* kBuildHere = "Build the engines here: d2export build BUNDLE --target auto";

// Where the engine lies, after making sure that TensorRT can read it.
std::filesystem::path checked(const Machine& machine, const Bundle& bundle,
                              const std::string& graph) {
    const std::optional<Engines> built = read_engines(bundle);
    if (!built) {
        throw bad_input(bundle.root().string() + " has no engines", kBuildHere);
    }
    const Gpu& gpu = *machine.gpu;
    check_engines(bundle, *built,
                  {machine.library->version(), gpu.name(), gpu.compute_capability(), gpu.memory(),
                   machine.options.plugin});
    for (const EngineSpec& engine : built->engines) {
        if (engine.graph == graph) {
            return bundle.path(engine.path);
        }
    }
    throw bad_input(bundle.root().string() + " has no engine of its " + graph + " graph",
                    kBuildHere);
}

}  // namespace

Engine::Engine(std::shared_ptr<const Machine> machine, const Bundle& bundle,
               const std::string& graph, const GraphSpec& spec)
    : machine_(std::move(machine)) {
    const Current current(gpu());
    const std::filesystem::path path = checked(*machine_, bundle, graph);
    path_ = path.string();
    const MappedFile file(path);
    nvinfer1::IRuntime& runtime = machine_->library->runtime();
    runtime.setEngineHostCodeAllowed(machine_->options.host_code);
    Log::only().clear();
    engine_.reset(runtime.deserializeCudaEngine(file.data(), file.size()));
    if (engine_ == nullptr) {
        throw failure("read");
    }
    describe();
    check_tensors(spec);
}

Engine::~Engine() {
    const Current current(gpu());
    engine_.reset();  // in the CUDA context that it was made in
}

void Engine::expect(const Tensor& tensor, DataType type) const {
    if (tensor.type != type) {
        throw bad_input(path_ + " answers " + tensor.name + " of " + name_of(tensor.type) +
                            ", expected " + name_of(type),
                        kBuildHere);
    }
}

Error Engine::failure(const std::string& what) const {
    return misfit("TensorRT " + machine_->library->version() + " cannot " + what + " the engine " +
                      path_ + Log::only().why(),
                  kBuildHere);
}

void Engine::describe() {
    using Selector = nvinfer1::OptProfileSelector;
    for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
        const char* const name = engine_->getIOTensorName(i);
        Tensor tensor;
        tensor.name = name;
        tensor.is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        tensor.on_host = engine_->getTensorLocation(name) == nvinfer1::TensorLocation::kHOST;
        tensor.type = type_of(engine_->getTensorDataType(name), tensor.name);
        for (int profile = 0; tensor.is_input && profile < profiles(); ++profile) {
            tensor.low.push_back(engine_->getProfileShape(name, profile, Selector::kMIN));
            tensor.high.push_back(engine_->getProfileShape(name, profile, Selector::kMAX));
        }
        tensors_.push_back(std::move(tensor));
    }
}

// TensorRT may leave inputs out that nothing depends on; outputs are all there.
void Engine::check_tensors(const GraphSpec& spec) const {
    const auto in = [](const std::vector<ValueSpec>& values, const std::string& name) {
        return std::any_of(values.begin(), values.end(),
                           [&](const ValueSpec& value) { return value.name == name; });
    };
    for (const Tensor& tensor : tensors_) {
        if (!in(tensor.is_input ? spec.inputs : spec.outputs, tensor.name)) {
            throw bad_input(path_ + " has an " + (tensor.is_input ? "input " : "output ") +
                                tensor.name + " that manifest.json does not know",
                            kBuildHere);
        }
    }
    for (const ValueSpec& value : spec.outputs) {
        const bool found = std::any_of(tensors_.begin(), tensors_.end(), [&](const Tensor& tensor) {
            return !tensor.is_input && tensor.name == value.name;
        });
        if (!found) {
            throw bad_input(
                path_ + " has no output " + value.name + ", which manifest.json says it has",
                kBuildHere);
        }
    }
}

}  // namespace d2export::runtime::trt
