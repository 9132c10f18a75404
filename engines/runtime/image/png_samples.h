// From the samples of a PNG to RGB, as Pillow converts them.
#pragma once

#include <png.h>

#include <cstddef>
#include <cstdint>

namespace d2export::runtime {

// How the samples of a pixel become a colour.
struct PngSamples {
    int colour_type;
    int bits;  // in the file
    png_const_colorp palette;
    int palette_size;
    png_const_bytep alphas;  // of the palette
    int alphas_size;
    png_const_color_16p transparent;  // the one colour that is not opaque, if there is one
};

// What the header of a file says about them. The pointers are into `info`.
PngSamples samples_of(png_const_structp png, png_infop info);

// Whether the samples are needed in both of their bytes; else the high one will do.
bool needs_both_bytes(const PngSamples& samples);

// Whether the samples are red, green and blue already.
bool is_plain_rgb(const PngSamples& samples);

// `count` pixels of `pixel_bytes` each, over white.
void to_rgb(const PngSamples& samples, const std::uint8_t* pixels, std::size_t pixel_bytes,
            std::size_t count, std::uint8_t* rgb);

}  // namespace d2export::runtime
