#include "embedding_table.h"

#include <d2export/error.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "manifest_limits.h"

namespace d2export::runtime {
namespace {

void widen(const std::vector<char>& row, DataType type, float* to, std::int64_t width) {
    if (type == DataType::kFloat32) {
        std::memcpy(to, row.data(), row.size());
        return;
    }
    for (std::int64_t i = 0; i < width; ++i) {
        std::uint16_t bits;
        std::memcpy(&bits, row.data() + 2 * i, sizeof bits);
        to[i] = type == DataType::kFloat16 ? from_float16(bits) : from_bfloat16(bits);
    }
}

}  // namespace

float from_bfloat16(std::uint16_t bits) {
    const std::uint32_t wide = std::uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

float from_float16(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value;
    if (exponent == 31) {
        value = fraction == 0 ? INFINITY : NAN;
    } else if (exponent == 0) {
        value = std::ldexp(static_cast<float>(fraction), -24);
    } else {
        value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

std::vector<float> embedded(const Bundle& bundle, const std::vector<std::int64_t>& ids) {
    const auto& table = bundle.manifest().embedding;
    if (!table) {
        throw bad_input(
            bundle.root().string() + " has no embedding table, so a prompt cannot be embedded here",
            "Pass input embeddings of this bundle's language model instead.");
    }
    const auto path = bundle.path(table->path);
    std::ifstream file(path, std::ios::binary);
    std::vector<char> row(static_cast<std::size_t>(table->width * item_bytes(table->type)));
    std::vector<float> found(ids.size() * static_cast<std::size_t>(table->width));
    float* to = found.data();
    for (const std::int64_t id : ids) {
        if (id < 0 || id >= table->rows) {
            throw bad_input("the prompt has the token id " + std::to_string(id) +
                                ", the embedding table " + std::to_string(table->rows) + " rows",
                            "The tokenizer does not belong to this model.");
        }
        file.seekg(table->offset + id * static_cast<std::int64_t>(row.size()));
        if (!file.read(row.data(), static_cast<std::streamsize>(row.size()))) {
            throw bad_input("cannot read " + path.string(), kBuildAgain);
        }
        widen(row, table->type, to, table->width);
        to += table->width;
    }
    return found;
}

}  // namespace d2export::runtime
