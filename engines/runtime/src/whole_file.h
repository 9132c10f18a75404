// A file read at once, unless it is larger than it may be.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace d2export::runtime {

// Throws an Error: it cannot be read, or has more than `limit` bytes.
std::string whole_file(const std::filesystem::path& path, std::size_t limit);

}  // namespace d2export::runtime
