// What the decoders hand on: pixels as the file has them, and how to turn them upright.
#pragma once

#include <d2export/image.h>

#include <cstddef>
#include <cstdint>

#include "exif.h"

namespace d2export::runtime {

struct Decoded {
    Image image;
    Orientation orientation = kUpright;
};

// The picture in a whole file of either kind. Throws an Error where it is damaged or too large.
Decoded decode_jpeg(const std::uint8_t* data, std::size_t size);
Decoded decode_png(const std::uint8_t* data, std::size_t size);

// Throws an Error for sides a model cannot make use of, or for more pixels than Pillow reads,
// before any memory is taken for them.
void check_sides(std::uint64_t width, std::uint64_t height);

// The picture as it was seen through the camera.
Image turn_upright(Image image, Orientation orientation);

}  // namespace d2export::runtime
