// Any bytes, read as inputs of the ops, and what must hold of every answer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "d2export/select.h"

namespace d2export::fuzz {

inline void demand(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken: %s\n", what);
        std::abort();
    }
}

// The fuzzer's bytes, one value after the other; zeros when they are used up.
class Bytes {
 public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    std::int32_t up_to(std::int32_t limit) {
        const int low = next();
        return (low | next() << 8) % (limit + 1);
    }

    float any_float() {
        std::uint32_t bits = 0;
        for (int i = 0; i < 4; ++i) {
            bits = bits << 8 | static_cast<std::uint32_t>(next());
        }
        float value = 0;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    float share() { return static_cast<float>(next()) / 255.0F; }

    int next() { return at_ < size_ ? data_[at_++] : 0; }

 private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t at_ = 0;
};

// A float whose value half and bfloat16 have, as an element of `type`.
inline void put(std::vector<std::uint8_t>& to, std::size_t at, DataType type, float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    std::uint16_t narrow = static_cast<std::uint16_t>(bits >> 16);
    if (type == DataType::kFloat32) {
        std::memcpy(&to[4 * at], &bits, 4);
        return;
    }
    if (type == DataType::kFloat16) {
        const std::uint32_t sign = bits >> 16 & 0x8000U;
        narrow = static_cast<std::uint16_t>(value == 0 ? sign : sign | ((bits >> 13) - 0x1C000U));
    }
    std::memcpy(&to[2 * at], &narrow, 2);
}

struct Case {
    Shape shape;
    DataType type = DataType::kFloat32;
    Parameters parameters;
    std::vector<std::uint8_t> features;
    std::vector<float> importance, prior, grid;
    bool exact = false;

    Inputs inputs() const {
        return {features.data(), importance.data(), prior.data(), grid.data(), type};
    }
};

inline Parameters read_parameters(Bytes& bytes, const Case& made) {
    Parameters parameters;
    if (bytes.next() % 4 == 0) {
        parameters.keep_permille = 1 + bytes.up_to(999);
    } else {
        parameters.keep = 1 + bytes.up_to(made.shape.tokens + 1);
    }
    parameters.pivot_ratio = bytes.share();
    parameters.pivots_block = bytes.next() % 2 == 1;
    if (made.exact) {
        constexpr float kAlphas[] = {0.0F, 0.25F, 0.5F, 1.0F};
        parameters.alpha = kAlphas[bytes.next() % 4];
        parameters.theta = static_cast<float>(bytes.next() % 33 - 16) / 16.0F;
        parameters.eps = 0.0F;
    } else {
        parameters.alpha = bytes.share();
        parameters.theta = bytes.any_float();
        parameters.eps = bytes.any_float();
    }
    return parameters;
}

inline Case read_case(Bytes& bytes) {
    Case made;
    made.exact = bytes.next() % 2 == 1;
    made.type = static_cast<DataType>(bytes.next() % 3);
    made.shape.batch = bytes.next() % 3;
    made.shape.heads = 1 + bytes.next() % 3;
    made.shape.tokens = bytes.up_to(bytes.next() % 8 == 0 ? 400 : 40);
    constexpr std::int32_t kExactChannels[] = {1, 4, 16, 64};
    made.shape.channels = made.exact ? kExactChannels[bytes.next() % 4] : bytes.up_to(80);
    made.parameters = read_parameters(bytes, made);

    const auto tokens = static_cast<std::size_t>(made.shape.tokens);
    const auto batch = static_cast<std::size_t>(made.shape.batch);
    const auto channels = static_cast<std::size_t>(made.shape.channels);
    const std::size_t rows = batch * tokens;
    made.features.resize(rows * channels * bytes_of(made.type));
    for (std::size_t row = 0; row < rows; ++row) {
        // Exact: signs times a power of two, and channels whose root is one, too.
        constexpr float kLengths[] = {0.0F, 0.5F, 1.0F, 4.0F};
        const float length = kLengths[bytes.next() % 4];
        std::uint32_t pattern = 0;
        for (std::size_t c = 0; c < channels; ++c) {
            if (made.exact) {
                pattern = c % 8 == 0 ? static_cast<std::uint32_t>(bytes.next()) : pattern >> 1;
                const float value = (pattern & 1U) != 0 ? -length : length;
                put(made.features, row * channels + c, made.type, value);
            } else {
                const std::size_t width = bytes_of(made.type);
                for (std::size_t i = 0; i < width; ++i) {
                    made.features[(row * channels + c) * width + i] =
                        static_cast<std::uint8_t>(bytes.next());
                }
            }
        }
    }
    made.importance.resize(rows * static_cast<std::size_t>(made.shape.heads));
    for (float& value : made.importance) {
        value = made.exact ? static_cast<float>(bytes.next()) / 256.0F : bytes.any_float();
    }
    made.prior.resize(tokens, 1.0F);
    made.grid.resize(2 * tokens);
    for (std::size_t i = 0; i < tokens; ++i) {
        if (made.exact) {  // on a line of length 8, so that nearness is a multiple of 1/8
            made.grid[2 * i] = static_cast<float>(i == 0 ? 0 : i == 1 ? 8 : bytes.next() % 9);
        } else {
            made.prior[i] = bytes.any_float();
            made.grid[2 * i] = bytes.any_float();
            made.grid[2 * i + 1] = bytes.any_float();
        }
    }
    return made;
}

inline void check(const Case& made, std::int32_t kept, const std::vector<std::int32_t>& indices,
                  const std::vector<std::uint8_t>& rows) {
    const auto wanted = static_cast<std::size_t>(kept);
    for (std::size_t i = 0; i < indices.size(); ++i) {
        demand(indices[i] >= 0 && indices[i] < made.shape.tokens, "an id out of range");
        demand(i % wanted == 0 || indices[i] > indices[i - 1], "ids that do not ascend");
    }
    std::vector<std::uint8_t> expected(rows.size());
    gather(made.shape, made.inputs(), kept, indices.data(), expected.data());
    demand(rows == expected, "rows that are not the features of their ids");
}

}  // namespace d2export::fuzz
