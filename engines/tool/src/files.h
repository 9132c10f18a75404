// Whole files: read at once; written complete or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

namespace d2export::tool {

// The bytes of a file; nothing if there is none. Throws a Failure if it cannot be read.
std::optional<std::string> read_if_there(const std::filesystem::path& path);

// The bytes of a file. Throws a Failure that says what the file is for.
std::string read_file(const std::filesystem::path& path, const std::string& what);

// Writes beside `path`, then renames; makes its folder if there is none.
void write_file(const std::filesystem::path& path, const void* bytes, std::size_t size);

}  // namespace d2export::tool
