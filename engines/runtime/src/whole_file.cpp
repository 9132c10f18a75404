#include "whole_file.h"

#include <d2export/error.h>

#include <fstream>

#include "manifest_limits.h"

namespace d2export::runtime {

std::string whole_file(const std::filesystem::path& path, std::size_t limit) {
    std::error_code problem;
    const std::uintmax_t size = std::filesystem::file_size(path, problem);
    std::ifstream file(path, std::ios::binary);
    if (problem || !file) {
        throw bad_input("cannot read " + path.string() + (problem ? ": " + problem.message() : ""),
                        "Check its permissions.");
    }
    if (size > limit) {
        throw bad_input(path.string() + " has more than " + std::to_string(limit) + " bytes",
                        kBuildAgain);
    }
    std::string text(static_cast<std::size_t>(size), '\0');
    file.read(text.data(), static_cast<std::streamsize>(size));
    text.resize(static_cast<std::size_t>(file.gcount()));
    return text;
}

}  // namespace d2export::runtime
