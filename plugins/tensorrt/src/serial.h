// The attributes as bytes, for engines of TensorRT 8.x: they may come from anywhere.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "d2export/parameters.h"

namespace d2export::tensorrt {

std::vector<unsigned char> serialize(const Parameters& parameters);

// Attributes without fault(), or nothing and why: not ours, of another format version, cut short,
// changed. Reads no byte outside `data` [size].
std::optional<Parameters> deserialize(const void* data, std::size_t size, std::string& why);

}  // namespace d2export::tensorrt
