// Any bytes as a plugin of an engine: refused with a reason, or attributes without fault that
// serialise to the same bytes. And any attributes, with the right checksum, which no mutation of
// bytes would hit: read back as they were, or refused for their fault.
// libFuzzer calls it; without it, standalone_fuzz.cpp does.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../tensorrt/src/serial.h"

namespace {

using d2export::Parameters;
using d2export::tensorrt::deserialize;
using d2export::tensorrt::serialize;

void check(bool condition) {
    if (!condition) {
        std::abort();
    }
}

// Takes the next bytes as a number; zeros where there are none left.
template <typename T>
T take(const std::uint8_t*& data, std::size_t& size) {
    T value{};
    const std::size_t count = size < sizeof value ? size : sizeof value;
    if (count > 0) {
        std::memcpy(&value, data, count);
    }
    data += count;
    size -= count;
    return value;
}

Parameters any_parameters(const std::uint8_t* data, std::size_t size) {
    Parameters parameters;
    // Mostly small, so that many are without fault.
    parameters.keep = take<std::int8_t>(data, size);
    parameters.keep_permille = take<std::int16_t>(data, size);
    if (take<std::uint8_t>(data, size) == 255) {
        parameters.keep = take<std::int64_t>(data, size);
    }
    parameters.pivot_ratio = take<float>(data, size);
    parameters.alpha = take<float>(data, size);
    parameters.theta = take<float>(data, size);
    parameters.eps = take<float>(data, size);
    parameters.pivots_block = take<std::uint8_t>(data, size) % 2 == 1;
    return parameters;
}

void check_bytes(const std::vector<unsigned char>& bytes) {
    std::string why;
    const auto parameters = deserialize(bytes.data(), bytes.size(), why);
    check(parameters ? parameters->fault().empty() : !why.empty());
    // A boolean of more than 1 is written as 1.
    check(!parameters || serialize(*parameters) == bytes || bytes[bytes.size() - 5] > 1);
}

void check_parameters(const Parameters& parameters) {
    const auto bytes = serialize(parameters);
    std::string why;
    const auto back = deserialize(bytes.data(), bytes.size(), why);
    check(back.has_value() == parameters.fault().empty());
    check(back ? serialize(*back) == bytes : why.find("say that") != std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    check_bytes({data, data + size});
    check_parameters(any_parameters(data, size));
    return 0;
}
