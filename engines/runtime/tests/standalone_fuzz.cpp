// Calls a fuzz target with seeded mutations of a file: for compilers without libFuzzer.
//
//     fuzz_manifest [INPUTS] [SEED] [FILE]

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937;

// What breaks readers: other types, other sizes, other paths.
const char* const kWords[] = {"null",        "true",
                              "0",           "-1",
                              "1e999",       "10000000000",
                              "[]",          "{}",
                              "\"\"",        "\"../../x\"",
                              "\"/etc\"",    "\"\\u0000\"",
                              "\"\\ud800\"", "0.1",
                              "[[[[[[",      "9007199254740993",
                              "\"vlm\"",     "\"int8\"",
                              "\"sms\"",     "184467440737095516160",
                              "\"text\"",    "{\"a\":1,\"a\":2}"};

std::size_t below(Random& random, std::size_t limit) { return limit == 0 ? 0 : random() % limit; }

// Where a value of the document begins and how long it is, roughly: from a colon to the next comma.
void replace_value(std::string& text, Random& random) {
    const std::size_t colon = text.find(':', below(random, text.size()));
    if (colon == std::string::npos) {
        return;
    }
    const std::size_t end = text.find_first_of(",}\n", colon + 1);
    const char* word = kWords[below(random, std::size(kWords))];
    text.replace(colon + 1, end == std::string::npos ? 0 : end - colon - 1, word);
}

void mutate(std::string& text, Random& random) {
    const std::size_t place = below(random, text.size());
    const std::size_t length = below(random, 40);
    switch (random() % 8) {
        case 0:
            text.resize(place);
            break;
        case 1:
            text.erase(place, length);
            break;
        case 2:
            text.insert(place, text.substr(below(random, text.size()), length));
            break;
        case 3:
            if (!text.empty()) {
                text[place] = static_cast<char>(random());
            }
            break;
        default:
            replace_value(text, random);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const int inputs = count > 1 ? std::atoi(arguments[1]) : 1000;
    const int seed = count > 2 ? std::atoi(arguments[2]) : 0;
    std::ifstream file(count > 3 ? arguments[3] : D2EXPORT_SEED, std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(file), {}};
    Random random(static_cast<Random::result_type>(seed));
    for (int i = 0; i < inputs; ++i) {
        std::string text = whole;
        for (auto changes = 1 + random() % 3; changes > 0; --changes) {
            mutate(text, random);
        }
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    }
    std::printf("%d inputs, seed %d: nothing found\n", inputs, seed);
}
