// Arrays of numpy: .npy files, as numpy.lib.format documents them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace d2export::tool {

struct Array {
    std::string descr;  // type of the elements, such as <f4
    std::vector<std::int64_t> shape;
    std::string bytes;  // row-major, little-endian
};

// Throws a Failure for what is no .npy file, is cut short, or holds Python objects.
Array read_npy(const std::filesystem::path& path);

void write_npy(const std::filesystem::path& path, const Array& array);

// "[1,3,448,448]"
std::string text_of(const std::vector<std::int64_t>& shape);

std::int64_t elements_of(const std::vector<std::int64_t>& shape);

}  // namespace d2export::tool
