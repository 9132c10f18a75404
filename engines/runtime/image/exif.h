// Which way up a camera was held, as cameras and editors note it in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace d2export::runtime {

// EXIF's tag 274: 1 is upright, 2 to 8 are mirrored or turned. Any other number means nothing.
using Orientation = std::uint32_t;
constexpr Orientation kUpright = 1;

// The orientation in a block of EXIF, with or without the `Exif\0\0` it begins with in a JPEG; none
// where the block has none.
//
// Reads what Pillow's Image.getexif reads. Throws an Error where the block is no EXIF.
std::optional<Orientation> orientation_in_exif(std::string_view block);

// The orientation in a packet of XMP, which editors write instead.
std::optional<Orientation> orientation_in_xmp(std::string_view packet);

}  // namespace d2export::runtime
