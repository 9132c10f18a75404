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

}  // namespace

std::size_t most_activations(int profiles) { return kActivations[profiles > 0 ? 0 : 1]; }

bool Opened::take(std::int32_t profile) {
    const std::lock_guard<std::mutex> lock(mutex);
    int& contexts_of_it = users.at(static_cast<std::size_t>(profile));
    if (NV_TENSORRT_MAJOR < 10 && contexts_of_it > 0) return false;
    ++contexts_of_it;
    return true;
}

void Opened::give_back(std::int32_t profile) {
    const std::lock_guard<std::mutex> lock(mutex);
    --users.at(static_cast<std::size_t>(profile));
}

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
    if (opened_.take(0)) profile_ = 0;
    changed();
}

ContextFunctions::~ContextFunctions() {
    if (profile_ >= 0) opened_.give_back(profile_);
    --opened_.contexts;
}

bool ContextFunctions::attempt(const std::function<void()>& function) const {
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
    if (index != profile_) {
        if (!opened_.take(index)) {
            throw "Profile " + std::to_string(index) +
                " has been chosen for another IExecutionContext. Use another profileIndex or "
                "destroy the IExecutionContext that uses this profile.";
        }
        if (profile_ >= 0) opened_.give_back(profile_);
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

}  // namespace stand_in
