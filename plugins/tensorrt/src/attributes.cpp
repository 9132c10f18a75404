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

bool take(const PluginField& field, bool& value) noexcept {
    std::int64_t whole = 0;
    const bool fits = take(field, whole);
    value = whole != 0;
    return fits;
}

const char* expected_for(float) noexcept { return "float32"; }
const char* expected_for(std::int64_t) noexcept { return "int32"; }
const char* expected_for(bool) noexcept { return "int32"; }

// What is wrong with the field. Empty if nothing: then `value` is its value.
template <typename T>
std::string read(const PluginField& field, T& value) {
    const std::string subject = "attribute " + std::string(field.name);
    if (field.data == nullptr || field.length != 1) {
        return subject + " has " + std::to_string(field.data == nullptr ? 0 : field.length) +
               " values, expected 1 number";
    }
    if (!take(field, value)) {
        return subject + " is " + type_name(field.type) + ", expected " + expected_for(value);
    }
    return {};
}

// keep, keep_permille or important_ratio
template <typename Attributes>
std::string names_of(const Attributes& attributes) {
    std::string names, last;
    Attributes::each(attributes, [&](const char* name, const auto&) {
        names += last.empty() ? "" : (names.empty() ? "" : ", ") + last;
        last = name;
    });
    return names + " or " + last;
}

template <typename Attributes>
std::string read_one(const PluginField& field, Attributes& attributes) {
    const std::string name = field.name == nullptr ? "" : field.name;
    bool known = false;
    std::string wrong;
    Attributes::each(attributes, [&](const char* attribute, auto& value) {
        if (name == attribute) {
            known = true;
            wrong = read(field, value);
        }
    });
    return known ? wrong : "there is no attribute '" + name + "'; expected " + names_of(attributes);
}

}  // namespace

void Fields::add(const char* name, const void* value, PluginFieldType type) noexcept {
    const auto place = static_cast<std::size_t>(collection_.nbFields++);
    std::memcpy(values_[place].data(), value, values_[place].size());
    fields_[place] = PluginField{name, values_[place].data(), type, 1};
}

// TensorRT counts in int32; more than so many tokens are all of them.
void Fields::add(const char* name, std::int64_t value) noexcept {
    const auto narrow = static_cast<std::int32_t>(
        std::min<std::int64_t>(value, std::numeric_limits<std::int32_t>::max()));
    add(name, &narrow, PluginFieldType::kINT32);
}

void Fields::add(const char* name, float value) noexcept {
    add(name, &value, PluginFieldType::kFLOAT32);
}

void Fields::add(const char* name, bool value) noexcept { add(name, std::int64_t{value ? 1 : 0}); }

template <typename Attributes>
std::optional<Attributes> read_fields(const PluginFieldCollection* fields, std::string& why) {
    Attributes attributes;
    std::string wrong;
    for (std::int32_t i = 0; fields != nullptr && i < fields->nbFields && wrong.empty(); ++i) {
        wrong = read_one(fields->fields[i], attributes);
    }
    if (wrong.empty()) {
        wrong = attributes.fault();
    }
    if (wrong.empty()) {
        return attributes;
    }
    why = std::string(Attributes::kOp) + ": " + wrong;
    return std::nullopt;
}

#define D2EXPORT_OP(Attributes) \
    template std::optional<Attributes> read_fields(const PluginFieldCollection*, std::string&);
D2EXPORT_EACH_OP(D2EXPORT_OP)
#undef D2EXPORT_OP

}  // namespace d2export::tensorrt
