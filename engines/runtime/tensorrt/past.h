// A sequence of tokens on the GPU.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "output.h"
#include "places.h"
#include "pool.h"

namespace d2export::runtime::trt {

// One call's outputs: keys and values in the order of the past's, and the others.
struct Outputs {
    explicit Outputs(std::size_t count) : present(count) {}
    std::vector<std::optional<Output>> present;
    std::optional<Output> logits, positions;

    // The first whose size was not known before the run; null if there is none.
    const Output* unknown() const;
    void end() noexcept;
};

// Outputs end before others have the lane.
struct Ending {
    explicit Ending(Outputs& those) : outputs(those) {}
    ~Ending() { outputs.end(); }
    Ending(const Ending&) = delete;
    Ending& operator=(const Ending&) = delete;
    Outputs& outputs;
};

// Keys and values of a sequence.
class Past final : public Cache {
 public:
    // `count` keys and values.
    Past(Pool<Places>::Taken taken, std::size_t count)
        : places(std::move(taken)), lengths(count), outputs(count) {
        places->begin();
        after.reserve(count);
    }

    // What a recorded step depends on: the lengths of the past, where that is, and where its answer
    // goes and how much room is there. Valid until the next call.
    const std::vector<std::int64_t>& key();

    Pool<Places>::Taken places;
    std::vector<std::int64_t> lengths;  // of each key and value
    std::vector<std::int64_t> after;    // the same behind a call
    Outputs outputs;

 private:
    std::vector<std::int64_t> key_;  // keeps its memory
};

}  // namespace d2export::runtime::trt
