// A file of a bundle against what a record says of it.
#pragma once

#include <d2export/bundle.h>

#include <string>

namespace d2export::runtime {

// Of a whole file. Throws an Error if it cannot be read.
std::string file_sha256(const std::filesystem::path& path);

// Throws an Error unless the file has the size and, with Verify::kEverything, the SHA-256 of
// `entry`, which stands in `record`.
void verify_file(const std::filesystem::path& path, const FileSpec& entry, Verify verify,
                 const char* record, const char* hint);

}  // namespace d2export::runtime
