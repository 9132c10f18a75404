// Any bytes as a plugin of an engine: refused with a reason, or attributes without fault that
// serialise to the same bytes. libFuzzer calls it; without it, standalone_fuzz.cpp does.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "../../tensorrt/src/serial.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string why;
    const auto parameters = d2export::tensorrt::deserialize(data, size, why);
    if (parameters ? !parameters->fault().empty() : why.empty()) {
        std::abort();
    }
    const std::vector<unsigned char> bytes(data, data + size);
    if (parameters && d2export::tensorrt::serialize(*parameters) != bytes &&
        bytes[bytes.size() - 5] < 2) {  // a boolean of more than 1 is written as 1
        std::abort();
    }
    return 0;
}
