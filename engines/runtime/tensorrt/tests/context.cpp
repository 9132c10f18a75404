#include "context.h"

#include <algorithm>

#include "gpu.h"
#include "stand_in.h"

namespace stand_in {
namespace {

using nvinfer1::Dims;
using nvinfer1::ILogger;
using nvinfer1::IOutputAllocator;

constexpr std::uint64_t kAlignment = 256;

CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

bool is_known(const Shape& shape) {
    return std::find(shape.begin(), shape.end(), -1) == shape.end();
}

bool is_dynamic(const Tensor& tensor) { return !is_known(tensor.shape({})); }

void check_memory(const Tensor& tensor, CUdeviceptr address, const Shape& shape) {
    const std::size_t bytes = bytes_of(tensor.type, shape);
    if (stand_in_has(address, std::max<std::size_t>(bytes, 1)) == 0) {
        throw tensor.name + " has no memory of " + std::to_string(bytes) + " bytes on the GPU";
    }
}

}  // namespace

std::size_t most_activations(int profiles) { return kActivations[profiles > 0 ? 0 : 1]; }

Alone::Alone(std::atomic_flag& busy) : busy_(busy) {
    if (busy_.test_and_set()) {
        std::fprintf(stderr, "two threads use one execution context at the same time\n");
        std::abort();
    }
}

ContextFunctions::ContextFunctions(Opened& opened, const nvinfer1::ICudaEngine& engine,
                                   std::size_t activations)
    : opened_(opened), engine_(engine) {
    if (activations > 0) {
        own_activations_ = std::make_unique<GpuRoom>(opened.allocator, activations);
        activations_ = own_activations_->address();
        activation_bytes_ = activations;
    }
    ++opened_.contexts;
    // Before TensorRT 10 a profile is of one context at a time.
    if (NV_TENSORRT_MAJOR >= 10 || opened_.users[0] == 0) choose(0);
}

ContextFunctions::~ContextFunctions() {
    if (profile_ >= 0) --opened_.users[static_cast<std::size_t>(profile_)];
    --opened_.contexts;
}

template <typename Function>
bool ContextFunctions::attempt(const Function& function) const {
    const Alone alone(busy_);
    try {
        function();
        return true;
    } catch (const std::string& why) {
        const std::string message = opened_.text->graph_name() + ": " + why;
        opened_.logger.log(ILogger::Severity::kERROR, message.c_str());
        return false;
    }
}

const Tensor& ContextFunctions::tensor(const char* name, bool input, bool output) const {
    const Tensor* const found = opened_.text->find(name);
    if (found == nullptr || !(found->is_input ? input : output)) {
        throw std::string("the engine has no such tensor ") + name;
    }
    return *found;
}

// --- Profiles and shapes

void ContextFunctions::changed() { ++turns_->state; }

void ContextFunctions::choose(std::int32_t index) {
    if (index < 0 || index >= opened_.text->profiles) {
        throw "there is no profile " + std::to_string(index);
    }
    auto& users = opened_.users;
    if (index != profile_) {
        if (NV_TENSORRT_MAJOR < 10 && users[static_cast<std::size_t>(index)] > 0) {
            throw "Profile " + std::to_string(index) +
                " has been chosen for another IExecutionContext. Use another profileIndex or "
                "destroy the IExecutionContext that uses this profile.";
        }
        ++users[static_cast<std::size_t>(index)];
        if (profile_ >= 0) --users[static_cast<std::size_t>(profile_)];
    }
    profile_ = index;
    shapes_.clear();
    changed();
}

bool ContextFunctions::setOptimizationProfileAsync(std::int32_t index,
                                                   cudaStream_t stream) noexcept {
    return attempt([&] {
        if (stand_in_capturing(stream) != 0) throw std::string("a profile is chosen in a graph");
        choose(index);
        profile_stream_ = stream;
        const auto waits = std::make_shared<const int>(index);
        profile_waits_ = waits;
        auto kept = std::make_unique<std::shared_ptr<const int>>(waits);
        const int result = stand_in_launch(
            stream, [](void*) { return 0; },
            [](void* user) {
                std::unique_ptr<std::shared_ptr<const int>>(
                    static_cast<std::shared_ptr<const int>*>(user));
            },
            kept.release());
        if (result != CUDA_SUCCESS) throw "CUDA answers " + std::to_string(result);
        told("profile " + opened_.text->graph_name() + " " + std::to_string(index));
    });
}

bool ContextFunctions::setInputShape(const char* name, const Dims& dims) noexcept {
    return attempt([&] {
        const Tensor& input = tensor(name, true, false);
        if (profile_ < 0) throw std::string("no profile is chosen");
        const Dims& low = input.min[static_cast<std::size_t>(profile_)];
        const Dims& high = input.max[static_cast<std::size_t>(profile_)];
        bool fits = dims.nbDims == low.nbDims;
        for (int axis = 0; fits && axis < dims.nbDims; ++axis) {
            fits = low.d[axis] <= dims.d[axis] && dims.d[axis] <= high.d[axis];
        }
        if (!fits) {
            throw input.name + " is " + text(dims) + ", profile " + std::to_string(profile_) +
                " takes " + text(low) + " to " + text(high);
        }
        const Shape shape(dims.d, dims.d + dims.nbDims);
        if (shapes_.count(name) == 0 || shapes_[name] != shape) changed();
        shapes_[name] = shape;
    });
}

// What the names are, as far as shapes are set. Throws std::string: two differ.
Sizes ContextFunctions::sizes() const {
    Sizes known;
    for (const Tensor& input : opened_.text->tensors) {
        const auto set = shapes_.find(input.name);
        if (set == shapes_.end()) continue;
        for (std::size_t axis = 0; axis < input.sizes.size(); ++axis) {
            const auto [found, is_new] = known.insert({input.sizes[axis], set->second[axis]});
            if (!is_new && found->second != set->second[axis]) {
                throw found->first + " is " + std::to_string(found->second) + ", and " +
                    std::to_string(set->second[axis]) + " in " + input.name;
            }
        }
    }
    return known;
}

Dims ContextFunctions::getTensorShape(const char* name) const noexcept {
    Dims found{};
    found.nbDims = -1;
    attempt([&] { found = dims_of(tensor(name, true, true).shape(sizes())); });
    return found;
}

std::int32_t ContextFunctions::inferShapes(std::int32_t room, const char** names) noexcept {
    std::int32_t missing = 0;
    const bool done = attempt([&] {
        for (const Tensor& input : opened_.text->tensors) {
            if (!input.is_input || !is_dynamic(input) || shapes_.count(input.name) != 0) continue;
            if (missing < room) names[missing] = input.name.c_str();
            ++missing;
        }
        static_cast<void>(sizes());
    });
    return done ? missing : -1;
}

// --- Memory

bool ContextFunctions::setTensorAddress(const char* name, void* address) noexcept {
    return attempt([&] {
        const Tensor& found = tensor(name, true, true);
        if (!found.on_host && address_of(address) % kAlignment != 0) {
            throw found.name + " has an address that is not aligned to 256 bytes";
        }
        addresses_[name] = address_of(address);
    });
}

bool ContextFunctions::setInputTensorAddress(const char* name, const void* address) noexcept {
    return setTensorAddress(name, const_cast<void*>(address));
}

const void* ContextFunctions::getTensorAddress(const char* name) const noexcept {
    const auto found = addresses_.find(name);
    return found == addresses_.end() ? nullptr : reinterpret_cast<const void*>(found->second);
}

void* ContextFunctions::getOutputTensorAddress(const char* name) const noexcept {
    return const_cast<void*>(getTensorAddress(name));
}

bool ContextFunctions::setOutputAllocator(const char* name, IOutputAllocator* allocator) noexcept {
    return attempt([&] { allocators_[tensor(name, false, true).name] = allocator; });
}

IOutputAllocator* ContextFunctions::getOutputAllocator(const char* name) noexcept {
    return allocators_[name];
}

void ContextFunctions::setDeviceMemory(void* memory) noexcept {
    attempt([&] {
        if (own_activations_ != nullptr) throw std::string("the context has memory of its own");
        if (address_of(memory) % kAlignment != 0) throw std::string("memory is not aligned to 256");
        activations_ = address_of(memory);
        activation_bytes_ = most_activations(opened_.text->profiles);
        changed();
    });
}

#if NV_TENSORRT_MAJOR < 10
bool ContextFunctions::setOptimizationProfile(std::int32_t index) noexcept {
    return attempt([&] { choose(index); });
}
#else
bool ContextFunctions::setOutputTensorAddress(const char* name, void* address) noexcept {
    return setTensorAddress(name, address);
}

void ContextFunctions::setDeviceMemoryV2(void* memory, std::int64_t bytes) noexcept {
    setDeviceMemory(memory);
    activation_bytes_ = static_cast<std::size_t>(bytes);
}
#endif

// --- Running

Place ContextFunctions::input_place(const Tensor& tensor, const Sizes& known) const {
    Place place{0, tensor.shape(known), {}};
    if (!is_known(place.shape)) throw "the shape of " + tensor.name + " is not set";
    const auto address = addresses_.find(tensor.name);
    if (address == addresses_.end() || address->second == 0) {
        throw tensor.name + " has no address";
    }
    place.address = address->second;
    if (tensor.on_host) {
        if (stand_in_has(place.address, 1) != 0) throw tensor.name + " is not on the host";
        const auto* const data = reinterpret_cast<const unsigned char*>(place.address);
        place.host.assign(data, data + bytes_of(tensor.type, place.shape));
    } else {
        check_memory(tensor, place.address, place.shape);
    }
    return place;
}

// The address, which its allocator says if it has one.
CUdeviceptr ContextFunctions::output_place(const Tensor& tensor, const Shape& shape,
                                           CUstream stream) const {
    const auto set = addresses_.find(tensor.name);
    CUdeviceptr address = set == addresses_.end() ? 0 : set->second;
    const auto allocator = allocators_.find(tensor.name);
    if (allocator != allocators_.end() && allocator->second != nullptr) {
        const std::size_t bytes = bytes_of(tensor.type, shape);
        void* const before = reinterpret_cast<void*>(address);
#if NV_TENSORRT_MAJOR < 10
        static_cast<void>(stream);
        address = address_of(
            allocator->second->reallocateOutput(tensor.name.c_str(), before, bytes, kAlignment));
#else
        address = address_of(allocator->second->reallocateOutputAsync(tensor.name.c_str(), before,
                                                                      bytes, kAlignment, stream));
#endif
        told("output " + tensor.name + " " + std::to_string(bytes));
        if (address % kAlignment != 0) throw tensor.name + " got memory not aligned to 256";
    }
    if (address == 0) throw tensor.name + " has no address";
    check_memory(tensor, address, shape);
    return address;
}

void ContextFunctions::check_apart(const Kernel& kernel) const {
    struct Range {
        const Tensor* tensor;
        CUdeviceptr first, end;
    };
    std::vector<Range> ranges;
    std::size_t input = 0, output = 0;
    for (const Tensor& tensor : opened_.text->tensors) {
        if (tensor.on_host) {
            ++input;
            continue;
        }
        const Place& place = tensor.is_input ? kernel.inputs[input++] : kernel.outputs[output++];
        const Range one{&tensor, place.address, place.address + bytes_of(tensor.type, place.shape)};
        for (const Range& other : ranges) {
            const bool written = !tensor.is_input || !other.tensor->is_input;
            if (written && one.first < other.end && other.first < one.end) {
                throw tensor.name + " lies where " + other.tensor->name + " does";
            }
        }
        ranges.push_back(one);
    }
}

Kernel ContextFunctions::kernel(CUstream stream) const {
    if (profile_ < 0) throw std::string("no profile is chosen");
    if (!profile_waits_.expired() && stream != profile_stream_) {
        throw std::string("the profile is still being switched, on another stream");
    }
    if (!last_waits_.expired() && stream != last_stream_) {
        throw std::string("the context still runs, on another stream");
    }
    if (activation_bytes_ < kActivations[profile_ == 0 ? 0 : 1] ||
        stand_in_has(activations_, activation_bytes_) == 0) {
        throw std::string("the context has not enough memory for activations");
    }
    Kernel kernel{opened_.text, opened_.computation, turns_, turns_->state,
                  activations_, activation_bytes_,   {},     {},
                  nullptr};
    const Sizes known = sizes();
    for (const Tensor& tensor : opened_.text->tensors) {
        if (tensor.is_input) {
            kernel.inputs.push_back(input_place(tensor, known));
        } else {
            kernel.outputs.push_back({0, tensor.shape(known), {}});
        }
    }
    return kernel;
}

// TensorRT, too, waits in the middle of a run for shapes that only the run tells.
void ContextFunctions::run_at_once(Kernel& kernel, CUstream stream) {
    const CUresult result = cuStreamSynchronize(stream);
    if (result != CUDA_SUCCESS) throw "CUDA answers " + std::to_string(result);
    const std::vector<Numbers> found = computed(kernel);
    std::size_t index = 0;
    for (const Tensor& tensor : opened_.text->tensors) {
        if (tensor.is_input) continue;
        const auto allocator = allocators_.find(tensor.name);
        const bool asks = allocator != allocators_.end() && allocator->second != nullptr;
        Place& place = kernel.outputs[index];
        if (!is_known(place.shape) && !asks) {
            throw tensor.name + " has no allocator, and its shape is not known before the run";
        }
        place.shape = found[index].shape;
        place.address = output_place(tensor, place.shape, stream);
        ++index;
    }
    check_apart(kernel);
    index = 0;
    for (const Tensor& tensor : opened_.text->tensors) {
        if (tensor.is_input) continue;
        write(tensor, kernel.outputs[index].address, found[index]);
        const auto allocator = allocators_.find(tensor.name);
        if (allocator != allocators_.end() && allocator->second != nullptr) {
            allocator->second->notifyShape(tensor.name.c_str(), dims_of(found[index].shape));
        }
        ++index;
    }
}

void ContextFunctions::enqueue(CUstream stream) {
    const std::string name = opened_.text->graph_name();
    if (refuses("run")) throw std::string("an illegal memory access was encountered");
    const bool records = stand_in_capturing(stream) != 0;
    Kernel ready = kernel(stream);
    const bool known = std::all_of(ready.outputs.begin(), ready.outputs.end(),
                                   [](const Place& place) { return is_known(place.shape); });
    if (records && (!known || enqueued_state_ != ready.state)) {
        cuStreamSynchronize(stream);  // as TensorRT would, which spoils the graph
        throw known ? "shapes changed since it ran outside of a graph"
                    : std::string("a shape is not known before the run, in a graph");
    }
    told((records ? "record " : "enqueue ") + name + " " + std::to_string(profile_));
    if (known) {
        std::size_t index = 0;
        for (const Tensor& tensor : opened_.text->tensors) {
            if (tensor.is_input) continue;
            Place& place = ready.outputs[index++];
            place.address = output_place(tensor, place.shape, stream);
            const auto allocator = allocators_.find(tensor.name);
            if (allocator != allocators_.end() && allocator->second != nullptr) {
                allocator->second->notifyShape(tensor.name.c_str(), dims_of(place.shape));
            }
        }
        check_apart(ready);
        if (!records) {
            const auto waits = std::make_shared<const int>(0);
            last_waits_ = ready.waiting = waits;
            last_stream_ = stream;
        }
        const std::uint64_t state = ready.state;
        const int result = launch(stream, std::move(ready));
        if (result != CUDA_SUCCESS) throw "CUDA answers " + std::to_string(result);
        if (!records) enqueued_state_ = state;
    } else {
        run_at_once(ready, stream);
        enqueued_state_ = ready.state;
    }
}

bool ContextFunctions::enqueueV3(cudaStream_t stream) noexcept {
    return attempt([&] { enqueue(stream); });
}

}  // namespace stand_in
