#include "serial.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace d2export::tensorrt {
namespace {

// Little-endian, without gaps: magic, format version, attributes, checksum.
constexpr std::uint32_t kFormat = 1;

// "1D2P", "2D2P" and so on: each op has its own.
constexpr std::uint32_t kMagic = 0x50324431;
constexpr std::uint32_t magic_of(const Parameters&) noexcept { return kMagic; }
constexpr std::uint32_t magic_of(const MaxMinParameters&) noexcept { return kMagic + 1; }
constexpr std::uint32_t magic_of(const DppParameters&) noexcept { return kMagic + 2; }
constexpr std::uint32_t magic_of(const DeduplicateParameters&) noexcept { return kMagic + 3; }
constexpr std::uint32_t magic_of(const PositionsParameters&) noexcept { return kMagic + 4; }

// A boolean is a byte.
using Byte = std::uint8_t;

template <typename T>
void append(std::vector<unsigned char>& bytes, T value) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof value);
    std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <typename T>
T take(const unsigned char*& at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return value;
}

// CRC-32 (IEEE 802.3): finds every change of up to 32 neighbouring bits.
std::uint32_t checksum(const unsigned char* bytes, std::size_t count) {
    std::uint32_t crc = 0xFFFFFFFFU;
    for (std::size_t i = 0; i < count; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
        }
    }
    return ~crc;
}

}  // namespace

template <typename Attributes>
std::vector<unsigned char> serialize(const Attributes& attributes) {
    std::vector<unsigned char> bytes;
    append(bytes, magic_of(attributes));
    append(bytes, kFormat);
    Attributes::each(attributes, [&](const char*, const auto& value) {
        if constexpr (std::is_same_v<decltype(value), const bool&>) {
            append(bytes, static_cast<Byte>(value));
        } else {
            append(bytes, value);
        }
    });
    append(bytes, checksum(bytes.data(), bytes.size()));
    return bytes;
}

template <typename Attributes>
std::optional<Attributes> deserialize(const void* data, std::size_t size, std::string& why) {
    Attributes attributes;
    const std::size_t expected = serialize(attributes).size();
    const std::string begin = "the engine's bytes for " + std::string(Attributes::kOp) + " ";
    const std::string wrong_size = begin + "are " + std::to_string(size) + ", expected " +
                                   std::to_string(expected) +
                                   ": the engine file is damaged; copy or build it again";
    const auto* at = static_cast<const unsigned char*>(data);
    if (data == nullptr || size < 8) {
        why = wrong_size;
        return std::nullopt;
    }
    if (take<std::uint32_t>(at) != magic_of(attributes)) {
        why = begin + "do not start as this plugin writes them; build the engine again";
        return std::nullopt;
    }
    const auto format = take<std::uint32_t>(at);
    if (format != kFormat) {
        why = begin + "have format version " + std::to_string(format) + ", expected " +
              std::to_string(kFormat) +
              ": load the plugin the engine was built with, or build the engine again";
        return std::nullopt;
    }
    if (size != expected) {
        why = wrong_size;
        return std::nullopt;
    }
    Attributes::each(attributes, [&at](const char*, auto& value) {
        if constexpr (std::is_same_v<decltype(value), bool&>) {
            value = take<Byte>(at) != 0;
        } else {
            value = take<std::decay_t<decltype(value)>>(at);
        }
    });
    const auto* const first = static_cast<const unsigned char*>(data);
    if (take<std::uint32_t>(at) != checksum(first, expected - sizeof(std::uint32_t))) {
        why = begin +
              "do not match their checksum: the engine file is damaged; copy or build it "
              "again";
        return std::nullopt;
    }
    const std::string fault = attributes.fault();
    if (!fault.empty()) {
        why = begin + "say that " + fault + "; build the engine again";
        return std::nullopt;
    }
    return attributes;
}

#define D2EXPORT_OP(Attributes)                                       \
    template std::vector<unsigned char> serialize(const Attributes&); \
    template std::optional<Attributes> deserialize(const void*, std::size_t, std::string&);
D2EXPORT_EACH_OP(D2EXPORT_OP)
#undef D2EXPORT_OP

}  // namespace d2export::tensorrt
