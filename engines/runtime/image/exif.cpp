#include "exif.h"

#include <d2export/error.h>

#include <algorithm>
#include <array>

namespace d2export::runtime {
namespace {

using namespace std::string_view_literals;

constexpr unsigned kOrientationTag = 274;
constexpr std::size_t kEntryBytes = 12;
constexpr std::size_t kValueBytes = 4;  // of an entry; a longer value lies elsewhere

// A TIFF file in memory, with bounds.
class Reader {
 public:
    explicit Reader(std::string_view bytes) : bytes_(bytes), big_(bytes[0] == 'M') {}

    bool has(std::size_t at, std::size_t size) const {
        return at <= bytes_.size() && size <= bytes_.size() - at;
    }

    std::uint32_t number(std::size_t at, std::size_t size) const {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < size; ++i) {
            const std::size_t byte = big_ ? at + i : at + size - 1 - i;
            value = value << 8 | static_cast<unsigned char>(bytes_[byte]);
        }
        return value;
    }

 private:
    std::string_view bytes_;
    bool big_;
};

// Bytes of a whole number, 0 for other types. A negative one is no orientation either way.
std::size_t width_of(std::uint32_t type) {
    constexpr std::uint32_t kShort = 3, kLong = 4, kSignedShort = 8, kSignedLong = 9, kIfd = 13;
    if (type == kShort || type == kSignedShort) return 2;
    return type == kLong || type == kSignedLong || type == kIfd ? 4 : 0;
}

}  // namespace

std::optional<Orientation> orientation_in_exif(std::string_view block) {
    for (int i = 0; i < 2 && block.substr(0, 6) == "Exif\0\0"sv; ++i) block.remove_prefix(6);
    if (block.empty()) return std::nullopt;
    constexpr std::array heads{"MM\0\x2a"sv, "II\x2a\0"sv, "MM\x2a\0"sv, "II\0\x2a"sv};
    if (block.size() < 8 ||
        std::find(heads.begin(), heads.end(), block.substr(0, 4)) == heads.end()) {
        throw bad_input("the picture is damaged: its EXIF block does not begin as one",
                        "Save the picture again, without EXIF or with a whole one.");
    }
    const Reader tiff(block);
    const std::size_t directory = tiff.number(4, 4);
    if (!tiff.has(directory, 2)) return std::nullopt;
    const std::size_t entries = tiff.number(directory, 2);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t entry = directory + 2 + i * kEntryBytes;
        if (!tiff.has(entry, kEntryBytes)) return std::nullopt;
        if (tiff.number(entry, 2) != kOrientationTag) continue;
        const std::size_t width = width_of(tiff.number(entry + 2, 2));
        const std::uint64_t size = std::uint64_t{tiff.number(entry + 4, 4)} * width;
        if (size == 0) continue;
        const std::size_t value = size <= kValueBytes ? entry + 8 : tiff.number(entry + 8, 4);
        if (size <= block.size() && tiff.has(value, size)) return tiff.number(value, width);
    }
    return std::nullopt;
}

std::optional<Orientation> orientation_in_xmp(std::string_view packet) {
    constexpr std::string_view name = "tiff:Orientation";
    for (std::size_t at = packet.find(name); at != packet.npos; at = packet.find(name, at + 1)) {
        std::string_view rest = packet.substr(at + name.size());
        const std::size_t opening = rest.substr(0, 2) == "=\"" ? 2 : rest.substr(0, 1) == ">";
        if (opening == 0 || rest.size() <= opening) continue;
        const char digit = rest[opening];
        if (digit >= '0' && digit <= '9') return static_cast<Orientation>(digit - '0');
    }
    return std::nullopt;
}

}  // namespace d2export::runtime
