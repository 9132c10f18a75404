#include "serial.h"

#include <cstdint>
#include <cstring>

namespace d2export::tensorrt {
namespace {

// Little-endian, without gaps: magic, format version, attributes, checksum.
constexpr std::uint32_t kMagic = 0x50324431;  // "1D2P"
constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kSize = 4 + 4 + 8 + 8 + 4 * 4 + 1 + 4;

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

std::vector<unsigned char> serialize(const Parameters& parameters) {
    std::vector<unsigned char> bytes;
    append(bytes, kMagic);
    append(bytes, kFormat);
    append(bytes, parameters.keep);
    append(bytes, parameters.keep_permille);
    append(bytes, parameters.pivot_ratio);
    append(bytes, parameters.alpha);
    append(bytes, parameters.theta);
    append(bytes, parameters.eps);
    append(bytes, static_cast<std::uint8_t>(parameters.pivots_block));
    append(bytes, checksum(bytes.data(), bytes.size()));
    return bytes;
}

std::optional<Parameters> deserialize(const void* data, std::size_t size, std::string& why) {
    const std::string begin = "the engine's bytes for D2Prune ";
    const auto* at = static_cast<const unsigned char*>(data);
    if (data == nullptr || size < 8) {
        why = begin + "are " + std::to_string(size) + ", expected " + std::to_string(kSize) +
              ": the engine file is damaged; copy or build it again";
        return std::nullopt;
    }
    if (take<std::uint32_t>(at) != kMagic) {
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
    if (size != kSize) {
        why = begin + "are " + std::to_string(size) + ", expected " + std::to_string(kSize) +
              ": the engine file is damaged; copy or build it again";
        return std::nullopt;
    }
    Parameters parameters;
    parameters.keep = take<std::int64_t>(at);
    parameters.keep_permille = take<std::int64_t>(at);
    parameters.pivot_ratio = take<float>(at);
    parameters.alpha = take<float>(at);
    parameters.theta = take<float>(at);
    parameters.eps = take<float>(at);
    const auto blocks = take<std::uint8_t>(at);
    const auto* const first = static_cast<const unsigned char*>(data);
    if (take<std::uint32_t>(at) != checksum(first, kSize - sizeof(std::uint32_t))) {
        why = begin +
              "do not match their checksum: the engine file is damaged; copy or build it "
              "again";
        return std::nullopt;
    }
    parameters.pivots_block = blocks != 0;
    const std::string fault = parameters.fault();
    if (!fault.empty()) {
        why = begin + "say that " + fault + "; build the engine again";
        return std::nullopt;
    }
    return parameters;
}

}  // namespace d2export::tensorrt
