#include "output.h"

#include <d2export/error.h>

#include <algorithm>
#include <string>

namespace d2export::runtime::trt {

Output::Output(Lane& lane, std::size_t tensor, const Engine& engine, DeviceBuffer& buffer,
               std::size_t room)
    : lane_(lane),
      tensor_(tensor),
      engine_(engine),
      buffer_(buffer),
      room_(room),
      sides_(lane.shape(tensor)) {
    // Sides that are not there are 0.
    if (std::any_of(sides_.of.begin(), sides_.of.end(), [](auto side) { return side < 0; })) {
        allocator_ = output_allocator_of(*this);
        lane_.to(tensor_, *allocator_);
        return;
    }
    buffer_.reserve(bytes(), bytes() + room_);
    lane_.to(tensor_, buffer_.get());
}

Output::~Output() {
    if (allocator_ != nullptr) {
        lane_.forget(tensor_);
    }
}

const Sides& Output::sides(std::size_t rank) const {
    if (sides_.rank != rank) {
        throw bad_input(engine_.path() + " answers " + tensor().name + " of " +
                            std::to_string(sides_.rank) + " sides, expected " +
                            std::to_string(rank),
                        "Build the engines again.");
    }
    return sides_;
}

std::size_t Output::bytes() const {
    return static_cast<std::size_t>(sides_.elements() * item_bytes(tensor().type));
}

void* Output::reserve(std::size_t bytes) noexcept {
    try {
        buffer_.reserve(bytes, bytes + room_);
        return buffer_.get();
    } catch (const std::exception&) {
        return nullptr;  // TensorRT's run fails then
    }
}

void Output::notify(const nvinfer1::Dims& dims) noexcept {
    sides_ = {};
    for (int i = 0; i < dims.nbDims && sides_.rank < kMaxRank; ++i) {
        sides_.of[sides_.rank++] = dims.d[i];
    }
}

}  // namespace d2export::runtime::trt
