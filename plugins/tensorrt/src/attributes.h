// The ops' attributes as TensorRT's plugin fields.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "ops.h"

namespace d2export::tensorrt {

// Names, types and values of an op's attributes.
class Fields {
 public:
    template <typename Attributes>
    explicit Fields(const Attributes& attributes) noexcept {
        Attributes::each(attributes,
                         [this](const char* name, const auto& value) { add(name, value); });
    }
    Fields(const Fields&) = delete;
    Fields& operator=(const Fields&) = delete;

    const nvinfer1::PluginFieldCollection* collection() const noexcept { return &collection_; }

 private:
    static constexpr std::size_t kMost = 8;  // attributes

    void add(const char* name, std::int64_t value) noexcept;
    void add(const char* name, float value) noexcept;
    void add(const char* name, bool value) noexcept;
    void add(const char* name, const void* value, nvinfer1::PluginFieldType type) noexcept;

    std::array<std::array<unsigned char, 4>, kMost> values_{};
    std::array<nvinfer1::PluginField, kMost> fields_{};
    nvinfer1::PluginFieldCollection collection_{0, fields_.data()};
};

// The fields that the op's creator understands, with their defaults.
template <typename Attributes>
const nvinfer1::PluginFieldCollection& field_names() noexcept {
    static const Fields defaults{Attributes{}};
    return *defaults.collection();
}

// Attributes from fields: those that are missing have their defaults. Nothing, and why, where a
// field's name, type, length or value does not fit.
template <typename Attributes>
std::optional<Attributes> read_fields(const nvinfer1::PluginFieldCollection* fields,
                                      std::string& why);

}  // namespace d2export::tensorrt
