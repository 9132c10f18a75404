#include "files.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "failure.h"

namespace d2export::tool {
namespace {

namespace fs = std::filesystem;

Failure unwritten(const fs::path& path, const std::string& why) {
    return usage("cannot write " + path.string() + ": " + why,
                 "Pass a place with room that you may write to.");
}

}  // namespace

std::optional<std::string> read_if_there(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) return std::nullopt;
    const std::string hint = "Pass a file that you may read.";
    if (fs::is_directory(status)) throw usage(path.string() + " is a folder", hint);
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) throw usage("cannot read " + path.string() + ": " + std::strerror(errno), hint);
    std::string bytes(static_cast<std::size_t>(file.tellg()), '\0');
    file.seekg(0).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file) throw usage("cannot read " + path.string() + ": it ended early", hint);
    return bytes;
}

std::string read_file(const fs::path& path, const std::string& what) {
    std::optional<std::string> bytes = read_if_there(path);
    if (!bytes) throw usage("there is no " + path.string(), "Pass " + what + ".");
    return *std::move(bytes);
}

void write_file(const fs::path& path, const void* bytes, std::size_t size) {
    std::error_code error;
    if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
    if (error) throw unwritten(path, error.message());
    const fs::path partial = path.string() + ".partial-" + std::to_string(::getpid());
    std::ofstream file(partial, std::ios::binary);
    file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size));
    file.close();
    const std::string why = std::strerror(errno);
    if (file) fs::rename(partial, path, error);
    if (!file || error) {
        std::error_code ignored;
        fs::remove(partial, ignored);
        throw unwritten(path, error ? error.message() : why);
    }
}

}  // namespace d2export::tool
