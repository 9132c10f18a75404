#include "verified_file.h"

#include <d2export/error.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "sha256.h"

namespace d2export::runtime {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 20;

std::string digest_of(std::ifstream& file, const FileSpec& entry) {
    Sha256 digest;
    std::vector<char> chunk(static_cast<std::size_t>(std::min(kChunk, entry.bytes)));
    const auto add = [&](std::int64_t start, std::int64_t stop) {
        file.seekg(start);
        while (start < stop && file) {
            const auto wanted = std::min<std::int64_t>(kChunk, stop - start);
            file.read(chunk.data(), wanted);
            digest.update(chunk.data(), static_cast<std::size_t>(file.gcount()));
            start += wanted;
        }
    };
    if (entry.ranges) {
        for (const auto& [start, stop] : *entry.ranges) {
            add(start, stop);
        }
    } else {
        add(0, entry.bytes);
    }
    return digest.hex();
}

}  // namespace

std::string file_sha256(const std::filesystem::path& path) {
    std::error_code problem;
    const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path, problem));
    std::ifstream file(path, std::ios::binary);
    if (problem || !file) {
        throw bad_input("cannot read " + path.string(), "Check its permissions.");
    }
    return digest_of(file, {size, "", std::nullopt});
}

void verify_file(const std::filesystem::path& path, const FileSpec& entry, Verify verify,
                 const char* record, const char* hint) {
    std::error_code problem;
    if (!std::filesystem::is_regular_file(path, problem)) {
        throw bad_input(path.string() + " is missing", hint);
    }
    const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path, problem));
    if (problem || size != entry.bytes) {
        throw bad_input(path.string() + " has " + std::to_string(size) + " bytes, expected " +
                            std::to_string(entry.bytes) + " as " + record + " says",
                        hint);
    }
    if (verify == Verify::kManifestOnly) {
        return;
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw bad_input("cannot read " + path.string(), "Check its permissions.");
    }
    const std::string found = digest_of(file, entry);
    if (found != entry.sha256) {
        throw bad_input(path.string() + " was changed after the build: its sha256 is " + found +
                            ", expected " + entry.sha256,
                        hint);
    }
}

}  // namespace d2export::runtime
