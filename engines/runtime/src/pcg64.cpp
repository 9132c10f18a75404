#include "pcg64.h"

#include <array>

namespace d2export::runtime {
namespace {

// O'Neill's seed_seq_fe as numpy's SeedSequence has it: a pool of four words.
class SeedSequence {
 public:
    explicit SeedSequence(std::uint64_t seed) {
        pool_ = {hashed(static_cast<std::uint32_t>(seed)),
                 hashed(static_cast<std::uint32_t>(seed >> 32)), hashed(0), hashed(0)};
        for (std::uint32_t& from : pool_) {
            for (std::uint32_t& to : pool_) {
                if (&from != &to) {
                    to = mixed(to, hashed(from));
                }
            }
        }
    }

    // The word at `place` of the generated state.
    std::uint64_t word(std::size_t place) const {
        return half(2 * place) | std::uint64_t{half(2 * place + 1)} << 32;
    }

 private:
    std::uint32_t hashed(std::uint32_t value) {
        value ^= constant_;
        constant_ *= 0x931e8875;
        value *= constant_;
        return value ^ value >> 16;
    }

    static std::uint32_t mixed(std::uint32_t x, std::uint32_t y) {
        const std::uint32_t both = 0xca01f9dd * x - 0x4973f715 * y;
        return both ^ both >> 16;
    }

    std::uint32_t half(std::size_t place) const {
        std::uint32_t constant = 0x8b51f9dd;
        for (std::size_t i = 0; i < place; ++i) {
            constant *= 0x58f38ded;
        }
        const std::uint32_t value = (pool_[place % 4] ^ constant) * (constant * 0x58f38ded);
        return value ^ value >> 16;
    }

    std::uint32_t constant_ = 0x43b0d7e5;
    std::array<std::uint32_t, 4> pool_;
};

}  // namespace

Pcg64::Pcg64(std::uint64_t seed) {
    const SeedSequence sequence(seed);
    const Wide first = Wide{sequence.word(0)} << 64 | sequence.word(1);
    increment_ = (Wide{sequence.word(2)} << 64 | sequence.word(3)) << 1 | 1;
    step();
    state_ += first;
    step();
}

double Pcg64::real() {
    step();
    const auto folded =
        static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_);
    const auto by = static_cast<unsigned>(state_ >> 122);
    const std::uint64_t drawn = folded >> by | folded << (64 - by) % 64;
    return static_cast<double>(drawn >> 11) * 0x1p-53;
}

void Pcg64::step() {
    constexpr Wide kMultiplier = Wide{0x2360ed051fc65da4} << 64 | 0x4385df649fccf645;
    state_ = state_ * kMultiplier + increment_;
}

}  // namespace d2export::runtime
