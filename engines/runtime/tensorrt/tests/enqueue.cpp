// How a context is run: what enqueueV3 checks, asks for and puts on the stream.

#include <algorithm>

#include "context.h"
#include "gpu.h"
#include "stand_in.h"

namespace stand_in {
namespace {

constexpr std::uint64_t kAlignment = 256;

CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

bool is_known(const Shape& shape) {
    return std::find(shape.begin(), shape.end(), -1) == shape.end();
}

void check_memory(const Tensor& tensor, CUdeviceptr address, const Shape& shape) {
    const std::size_t bytes = bytes_of(tensor.type, shape);
    if (stand_in_has(address, std::max<std::size_t>(bytes, 1)) == 0) {
        throw tensor.name + " has no memory of " + std::to_string(bytes) + " bytes on the GPU";
    }
}

}  // namespace

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

void ContextFunctions::put_on(CUstream stream) {
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
    return attempt([&] { put_on(stream); });
}

}  // namespace stand_in
