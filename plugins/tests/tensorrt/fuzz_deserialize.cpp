// Any bytes as a plugin of an engine, of every op: refused with a reason, or attributes without
// fault that serialise to the same bytes. And any attributes, with the right checksum, which no
// mutation of bytes would hit: read back as they were, or refused for their fault. libFuzzer calls
// it; without it, standalone_fuzz.cpp does.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "../../tensorrt/src/serial.h"

namespace {

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

template <typename Attributes>
Attributes any_attributes(const std::uint8_t* data, std::size_t size) {
    Attributes attributes;
    Attributes::each(attributes, [&](const char*, auto& value) {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, bool>) {
            value = take<std::uint8_t>(data, size) % 2 == 1;
        } else if constexpr (std::is_same_v<Value, float>) {
            value = take<float>(data, size);
        } else {  // mostly small, so that many are without fault
            value = take<std::int8_t>(data, size);
            if (take<std::uint8_t>(data, size) == 255) {
                value = take<std::int64_t>(data, size);
            }
        }
    });
    return attributes;
}

template <typename Attributes>
void check_bytes(const std::vector<unsigned char>& bytes) {
    std::string why;
    const auto attributes = deserialize<Attributes>(bytes.data(), bytes.size(), why);
    check(attributes ? attributes->fault().empty() : !why.empty());
    // A boolean of more than 1 is written as 1.
    check(!attributes || serialize(*attributes) == bytes || bytes[bytes.size() - 5] > 1);
}

// Bytes of `Attributes` are those of no other op.
template <typename Attributes, typename Other>
void check_other(const std::vector<unsigned char>& bytes) {
    std::string why;
    check(std::is_same_v<Attributes, Other> ||
          (!deserialize<Other>(bytes.data(), bytes.size(), why) &&
           why.find("do not start") != std::string::npos));
}

template <typename Attributes>
void check_op(const std::uint8_t* data, std::size_t size) {
    check_bytes<Attributes>({data, data + size});
    const auto attributes = any_attributes<Attributes>(data, size);
    const auto bytes = serialize(attributes);
    std::string why;
    const auto back = deserialize<Attributes>(bytes.data(), bytes.size(), why);
    check(back.has_value() == attributes.fault().empty());
    check(back ? serialize(*back) == bytes : why.find("say that") != std::string::npos);
#define D2EXPORT_OTHER(Other) check_other<Attributes, d2export::Other>(bytes);
    D2EXPORT_EACH_OP(D2EXPORT_OTHER)
#undef D2EXPORT_OTHER
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
#define D2EXPORT_CHECK(Attributes) check_op<d2export::Attributes>(data, size);
    D2EXPORT_EACH_OP(D2EXPORT_CHECK)
#undef D2EXPORT_CHECK
    return 0;
}
