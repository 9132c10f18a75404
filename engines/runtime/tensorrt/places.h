// Memory for keys and values of one sequence, and for what its last call answered.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "engine.h"

namespace d2export::runtime::trt {

// An engine reads keys and values of the past and writes those of past and present, so that there
// are two places for them, which take turns.
class Places {
 public:
    Places(const Machine& machine, std::size_t count)
        : logits(machine.memory), positions(machine.memory), host(machine.gpu) {
        for (std::vector<DeviceBuffer>& set : sets_) {
            for (std::size_t i = 0; i < count; ++i) {
                set.emplace_back(machine.memory);
            }
        }
    }

    std::vector<DeviceBuffer>& held() { return sets_[turn_]; }
    std::vector<DeviceBuffer>& spare() { return sets_[1 - turn_]; }
    void turn() { turn_ = 1 - turn_; }
    // Every sequence begins alike, so that its steps have the addresses that were recorded.
    void begin() { turn_ = 0; }

    DeviceBuffer logits, positions;
    HostBuffer host;  // of both

 private:
    std::array<std::vector<DeviceBuffer>, 2> sets_;
    std::size_t turn_ = 0;
};

}  // namespace d2export::runtime::trt
