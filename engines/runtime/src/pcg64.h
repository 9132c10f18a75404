// The generator behind numpy.random.default_rng: PCG64 (O'Neill's PCG XSL RR 128/64), seeded by
// numpy's SeedSequence, so that a seed draws what it draws in Python.
#pragma once

#include <cstdint>

namespace d2export::runtime {

class Pcg64 {
 public:
    explicit Pcg64(std::uint64_t seed);

    // Uniform, from 0 and below 1.
    double real();

 private:
    __extension__ using Wide = unsigned __int128;

    void step();

    Wide state_ = 0;
    Wide increment_;
};

}  // namespace d2export::runtime
