#include "attributes.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace d2export::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

std::string type_name(PluginFieldType type) {
    switch (type) {
        case PluginFieldType::kFLOAT32:
            return "float32";
        case PluginFieldType::kINT32:
            return "int32";
        default:
            return "field type " + std::to_string(static_cast<int>(type));
    }
}

bool is_whole(PluginFieldType type) noexcept {
#if NV_TENSORRT_MAJOR >= 10
    if (type == PluginFieldType::kINT64) {
        return true;
    }
#endif
    return type == PluginFieldType::kINT32;
}

std::int64_t whole_of(const PluginField& field) noexcept {
    if (field.type == PluginFieldType::kINT32) {
        std::int32_t value = 0;
        std::memcpy(&value, field.data, sizeof value);
        return value;
    }
    std::int64_t value = 0;
    std::memcpy(&value, field.data, sizeof value);
    return value;
}

// Takes the field's value; false where the attribute has no such type.
bool take(const PluginField& field, std::int64_t& value) noexcept {
    if (!is_whole(field.type)) {
        return false;
    }
    value = whole_of(field);
    return true;
}

bool take(const PluginField& field, float& value) noexcept {
    if (field.type != PluginFieldType::kFLOAT32) {
        return false;
    }
    std::memcpy(&value, field.data, sizeof value);
    return true;
}

template <typename T>
bool read(const PluginField& field, T& value, const char* expected, std::string& why) {
    if (field.data == nullptr || field.length != 1) {
        why = "D2Prune: attribute " + std::string(field.name) + " has " +
              std::to_string(field.data == nullptr ? 0 : field.length) +
              " values, expected 1 number";
        return false;
    }
    if (!take(field, value)) {
        why = "D2Prune: attribute " + std::string(field.name) + " is " + type_name(field.type) +
              ", expected " + expected;
        return false;
    }
    return true;
}

bool read_one(const PluginField& field, Parameters& parameters, std::string& why) {
    const std::string name = field.name == nullptr ? "" : field.name;
    const auto whole = [&](std::int64_t& value) { return read(field, value, "int32", why); };
    const auto real = [&](float& value) { return read(field, value, "float32", why); };
    if (name == "keep") {
        return whole(parameters.keep);
    }
    if (name == "keep_permille") {
        return whole(parameters.keep_permille);
    }
    if (name == "pivots_block") {
        std::int64_t blocks = 0;
        const bool good = whole(blocks);
        parameters.pivots_block = blocks != 0;
        return good;
    }
    if (name == "pivot_ratio") {
        return real(parameters.pivot_ratio);
    }
    if (name == "alpha") {
        return real(parameters.alpha);
    }
    if (name == "theta") {
        return real(parameters.theta);
    }
    if (name == "eps") {
        return real(parameters.eps);
    }
    why = "D2Prune: there is no attribute '" + name +
          "'; expected keep, keep_permille, pivot_ratio, alpha, theta, eps or pivots_block";
    return false;
}

std::array<PluginField, 7> fields_at(const std::int32_t* whole, const float* real) noexcept {
    const auto at = [](const auto* values, int i) {
        return values == nullptr ? nullptr : values + i;
    };
    return {{{"keep", at(whole, 0), PluginFieldType::kINT32, 1},
             {"keep_permille", at(whole, 1), PluginFieldType::kINT32, 1},
             {"pivots_block", at(whole, 2), PluginFieldType::kINT32, 1},
             {"pivot_ratio", at(real, 0), PluginFieldType::kFLOAT32, 1},
             {"alpha", at(real, 1), PluginFieldType::kFLOAT32, 1},
             {"theta", at(real, 2), PluginFieldType::kFLOAT32, 1},
             {"eps", at(real, 3), PluginFieldType::kFLOAT32, 1}}};
}

// TensorRT counts in int32; more than so many tokens are all of them.
std::int32_t narrow(std::int64_t value) noexcept {
    return static_cast<std::int32_t>(
        std::min<std::int64_t>(value, std::numeric_limits<std::int32_t>::max()));
}

}  // namespace

const PluginFieldCollection& field_names() noexcept {
    static const std::array<PluginField, 7> fields = fields_at(nullptr, nullptr);
    static const PluginFieldCollection collection{static_cast<std::int32_t>(fields.size()),
                                                  fields.data()};
    return collection;
}

std::optional<Parameters> read_fields(const PluginFieldCollection* fields, std::string& why) {
    Parameters parameters;
    for (std::int32_t i = 0; fields != nullptr && i < fields->nbFields; ++i) {
        if (!read_one(fields->fields[i], parameters, why)) {
            return std::nullopt;
        }
    }
    const std::string fault = parameters.fault();
    if (!fault.empty()) {
        why = "D2Prune: " + fault;
        return std::nullopt;
    }
    return parameters;
}

Fields::Fields(const Parameters& parameters) noexcept
    : whole_{narrow(parameters.keep), narrow(parameters.keep_permille),
             parameters.pivots_block ? 1 : 0},
      real_{parameters.pivot_ratio, parameters.alpha, parameters.theta, parameters.eps},
      fields_(fields_at(whole_.data(), real_.data())) {
    collection_.nbFields = static_cast<std::int32_t>(fields_.size());
    collection_.fields = fields_.data();
}

}  // namespace d2export::tensorrt
