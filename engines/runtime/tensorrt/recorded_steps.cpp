#include "recorded_steps.h"

namespace d2export::runtime::trt {

RecordedStep::~RecordedStep() {
    if (ready_ != nullptr) {
        const Current current(*gpu_);
        gpu_->driver().graph_exec_destroy(ready_);
    }
}

void RecordedStep::launch(const Stream& stream) const {
    gpu_->check(gpu_->driver().graph_launch(ready_, stream.get()), "replay a decode step");
}

void RecordedSteps::begin() {
    constexpr std::size_t kPatience = 2;
    useless_ = missed_ && !found_ ? useless_ + 1 : 0;
    missed_ = found_ = false;
    if (useless_ >= kPatience && !has_room()) {
        steps_.clear();
        useless_ = 0;
    }
}

const Recorded* RecordedSteps::find(const std::vector<std::int64_t>& key) {
    const auto found = steps_.find(key);
    (found == steps_.end() ? missed_ : found_) = true;
    return found == steps_.end() ? nullptr : &found->second;
}

void RecordedSteps::add(const std::vector<std::int64_t>& key, Recorded recorded) {
    steps_.emplace(key, std::move(recorded));
}

}  // namespace d2export::runtime::trt
