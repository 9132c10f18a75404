// The public calls of <d2export/image.h> that read a picture.
#include <d2export/error.h>
#include <d2export/image.h>

#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

#include "decoded.h"

namespace d2export::runtime {
namespace {

using namespace std::string_view_literals;

constexpr std::uintmax_t kMaxFileBytes = 512u << 20;

std::vector<std::uint8_t> read_file(const std::string& path) {
    std::error_code failure;
    const std::filesystem::file_status status = std::filesystem::status(path, failure);
    if (!std::filesystem::exists(status)) {
        throw bad_input(path + " does not exist", "Check the path of the image.");
    }
    if (std::filesystem::is_directory(status)) {
        throw bad_input(path + " is a folder, expected an image file", "Name one file in it.");
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) throw bad_input(path + " may not be read", "Check its permissions.");
    std::vector<std::uint8_t> bytes;
    constexpr std::size_t kBlock = 1u << 20;  // a pipe has no size to ask for
    while (file) {
        const std::size_t before = bytes.size();
        if (before > kMaxFileBytes) {
            throw bad_input(path + " has more than " + std::to_string(kMaxFileBytes) +
                                " bytes, too many for a picture",
                            "Scale the picture down first.");
        }
        bytes.resize(before + kBlock);
        file.read(reinterpret_cast<char*>(bytes.data() + before), kBlock);
        bytes.resize(before + static_cast<std::size_t>(file.gcount()));
    }
    return bytes;
}

}  // namespace

Image decode_image(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const auto begins = [&](std::string_view magic) {
        return bytes.substr(0, magic.size()) == magic;
    };
    if (begins("\xff\xd8\xff"sv)) {
        Decoded decoded = decode_jpeg(data, size);
        return turn_upright(std::move(decoded.image), decoded.orientation);
    }
    if (begins("\x89PNG\r\n\x1a\n"sv)) {
        Decoded decoded = decode_png(data, size);
        return turn_upright(std::move(decoded.image), decoded.orientation);
    }
    throw bad_input(size == 0 ? "the picture is empty, expected PNG or JPEG"
                              : "the picture (" + std::to_string(size) +
                                    " bytes) is neither PNG nor JPEG, or its header is cut",
                    "Save it as PNG or JPEG.");
}

Image read_image(const std::string& path) {
    const std::vector<std::uint8_t> bytes = read_file(path);
    try {
        return decode_image(bytes.data(), bytes.size());
    } catch (const Error& error) {
        throw Error(error.blame(), path + ": " + error.what(), error.hint());
    }
}

}  // namespace d2export::runtime
