// The op's attributes as TensorRT's plugin fields.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "d2export/parameters.h"

namespace d2export::tensorrt {

inline constexpr char kPluginVersion[] = "1";

// The fields a creator understands: names and types, without values.
const nvinfer1::PluginFieldCollection& field_names() noexcept;

// Attributes from fields: those that are missing have their defaults. Nothing, and why, where a
// field's name, type, length or value does not fit.
std::optional<Parameters> read_fields(const nvinfer1::PluginFieldCollection* fields,
                                      std::string& why);

// Attributes with fields that point at them.
class Fields {
 public:
    explicit Fields(const Parameters& parameters) noexcept;
    Fields(const Fields&) = delete;
    Fields& operator=(const Fields&) = delete;

    const nvinfer1::PluginFieldCollection* collection() const noexcept { return &collection_; }

 private:
    std::array<std::int32_t, 3> whole_;  // keep, keep_permille, pivots_block
    std::array<float, 4> real_;          // pivot_ratio, alpha, theta, eps
    std::array<nvinfer1::PluginField, 7> fields_;
    nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace d2export::tensorrt
