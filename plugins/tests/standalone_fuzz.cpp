// Calls a fuzz target with seeded random bytes: for sanitizers and compilers without libFuzzer.
//
//     fuzz_target [INPUTS] [SEED]

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** arguments) {
    const int inputs = count > 1 ? std::atoi(arguments[1]) : 1000;
    const int seed = count > 2 ? std::atoi(arguments[2]) : 0;
    std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
    for (int i = 0; i < inputs; ++i) {
        std::vector<std::uint8_t> bytes(random() % 8192);
        for (std::uint8_t& byte : bytes) {
            byte = static_cast<std::uint8_t>(random());
        }
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%d inputs, seed %d: nothing found\n", inputs, seed);
}
