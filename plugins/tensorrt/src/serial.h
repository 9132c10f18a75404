// An op's attributes as bytes, for engines of TensorRT 8.x: they may come from anywhere.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "ops.h"

namespace d2export::tensorrt {

template <typename Attributes>
std::vector<unsigned char> serialize(const Attributes& attributes);

// Attributes without fault(), or nothing and why: not ours, another op's, of another format
// version, cut short, changed. Reads no byte outside `data` [size].
template <typename Attributes>
std::optional<Attributes> deserialize(const void* data, std::size_t size, std::string& why);

}  // namespace d2export::tensorrt
