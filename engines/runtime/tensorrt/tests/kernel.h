// One run of an engine, as it was put on a stream: shapes and addresses are those of that moment.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "computation.h"

namespace stand_in {

// What all runs of a context share.
struct Turns {
    std::atomic<bool> running{false};
    std::atomic<std::uint64_t> state{0};  // another one after each change of a shape or profile
};

struct Place {
    CUdeviceptr address = 0;
    Shape shape;
    std::vector<unsigned char> host;  // an input's numbers, if they lie on the host
};

struct Kernel {
    std::shared_ptr<const EngineText> engine;
    std::shared_ptr<const Computation> computation;
    std::shared_ptr<Turns> turns;
    std::uint64_t state;
    CUdeviceptr activations;
    std::size_t activation_bytes;
    std::vector<Place> inputs, outputs;  // in the order of the engine
    std::shared_ptr<const int> waiting;  // exists until it has run; none of what is recorded
};

// Computes the outputs, in the memory for activations, as it were. Throws std::string: it cannot.
std::vector<Numbers> computed(const Kernel& kernel);

// Throws std::string: there is no such memory.
void write(const Tensor& tensor, CUdeviceptr address, const Numbers& numbers);

// Puts it on a stream. Answers CUDA's result.
int launch(CUstream stream, Kernel kernel);

}  // namespace stand_in
