#include "past.h"

namespace d2export::runtime::trt {

const Output* Outputs::unknown() const {
    for (const std::optional<Output>* output : {&logits, &positions}) {
        if (*output && !(*output)->known()) {
            return &**output;
        }
    }
    for (const std::optional<Output>& output : present) {
        if (output && !output->known()) {
            return &*output;
        }
    }
    return nullptr;
}

void Outputs::end() noexcept {
    for (std::optional<Output>& output : present) {
        output.reset();
    }
    logits.reset();
    positions.reset();
}

const std::vector<std::int64_t>& Past::key() {
    const auto add = [&](const DeviceBuffer& buffer) {
        key_.push_back(reinterpret_cast<std::intptr_t>(buffer.get()));
        key_.push_back(static_cast<std::int64_t>(buffer.size()));
    };
    key_ = lengths;
    add(places->logits);
    add(places->positions);
    for (const DeviceBuffer& held : places->held()) {
        add(held);
    }
    for (const DeviceBuffer& spare : places->spare()) {
        add(spare);
    }
    return key_;
}

}  // namespace d2export::runtime::trt
