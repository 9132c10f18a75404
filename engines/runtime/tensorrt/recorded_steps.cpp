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

const Recorded* RecordedSteps::find(const std::vector<std::int64_t>& key) {
    const auto found = steps_.find(key);
    if (found == steps_.end()) {
        ++missed_;
        return nullptr;
    }
    missed_ = 0;
    return &found->second;
}

bool RecordedSteps::has_room() {
    if (steps_.size() >= most_ && missed_ > most_) {
        steps_.clear();
    }
    return steps_.size() < most_;
}

void RecordedSteps::add(const std::vector<std::int64_t>& key, Recorded recorded) {
    steps_.emplace(key, std::move(recorded));
}

}  // namespace d2export::runtime::trt
