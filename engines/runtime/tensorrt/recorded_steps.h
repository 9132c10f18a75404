// Decode steps as CUDA graphs. A graph holds for the addresses and the lengths it was recorded
// with, which a step has again in the next sequence on the same memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "gpu.h"

namespace d2export::runtime::trt {

// A recorded step, ready to be launched.
class RecordedStep {
 public:
    RecordedStep(const Gpu& gpu, CUgraphExec ready) : gpu_(&gpu), ready_(ready) {}
    ~RecordedStep();
    RecordedStep(RecordedStep&& other) noexcept : gpu_(other.gpu_), ready_(other.ready_) {
        other.ready_ = nullptr;
    }
    RecordedStep& operator=(RecordedStep&&) = delete;

    void launch(const Stream& stream) const;

 private:
    const Gpu* gpu_;
    CUgraphExec ready_;
};

// A step that was recorded, and what is known of its answer.
struct Recorded {
    RecordedStep step;
    std::vector<std::int64_t> lengths;  // of keys and values behind it
    std::int64_t positions;             // how many it answers
};

class RecordedSteps {
 public:
    explicit RecordedSteps(std::size_t most) : most_(most) {}

    bool wanted() const { return most_ > 0; }
    // The step of those addresses and lengths; null if it was not recorded.
    const Recorded* find(const std::vector<std::int64_t>& key);
    // A sequence begins. When two had no use of what is kept, and there was no room for their own
    // steps, all are forgotten: sequences have other lengths by now.
    void begin();
    bool has_room() const { return steps_.size() < most_; }
    void add(const std::vector<std::int64_t>& key, Recorded recorded);
    // Memory that they use has moved.
    void clear() { steps_.clear(); }

 private:
    std::size_t most_;
    std::size_t useless_ = 0;              // sequences in a row
    bool missed_ = false, found_ = false;  // by this one
    std::map<std::vector<std::int64_t>, Recorded> steps_;
};

}  // namespace d2export::runtime::trt
