#include "png_samples.h"

#include <array>

namespace d2export::runtime {
namespace {

using Colour = std::array<unsigned, 4>;  // red, green, blue, alpha

Colour grey(const PngSamples& samples, const std::uint8_t* pixel) {
    unsigned value = pixel[0];
    if (needs_both_bytes(samples)) {
        value = pixel[0] != 0 ? 255u : pixel[1];  // Pillow clips here what it scales elsewhere
    } else if (samples.bits < 8) {
        value *= 255u / ((1u << samples.bits) - 1);
    }
    unsigned alpha = 255;
    if (samples.transparent != nullptr) {
        // As Pillow compares: the key is scaled at one bit only, and of 16 bits the low byte
        // counts.
        const unsigned key = samples.bits == 1 ? (samples.transparent->gray != 0 ? 255u : 0u)
                                               : samples.transparent->gray & 255u;
        alpha = value == key ? 0 : 255;
    }
    return {value, value, value, alpha};
}

Colour indexed(const PngSamples& samples, unsigned index) {
    const int entry = static_cast<int>(index);
    const unsigned alpha = entry < samples.alphas_size ? samples.alphas[entry] : 255u;
    if (entry >= samples.palette_size) return {0, 0, 0, alpha};
    const png_color& colour = samples.palette[entry];
    return {colour.red, colour.green, colour.blue, alpha};
}

Colour red_green_blue(const PngSamples& samples, const std::uint8_t* pixel) {
    unsigned alpha = 255;
    if (const png_const_color_16p key = samples.transparent) {
        const bool is_key = pixel[0] == (key->red & 255) && pixel[1] == (key->green & 255) &&
                            pixel[2] == (key->blue & 255);
        alpha = is_key ? 0 : 255;
    }
    return {pixel[0], pixel[1], pixel[2], alpha};
}

Colour colour_of(const PngSamples& samples, const std::uint8_t* pixel) {
    switch (samples.colour_type) {
        case PNG_COLOR_TYPE_GRAY:
            return grey(samples, pixel);
        case PNG_COLOR_TYPE_GRAY_ALPHA:
            return {pixel[0], pixel[0], pixel[0], pixel[1]};
        case PNG_COLOR_TYPE_PALETTE:
            return indexed(samples, pixel[0]);
        case PNG_COLOR_TYPE_RGB_ALPHA:
            return {pixel[0], pixel[1], pixel[2], pixel[3]};
        default:
            return red_green_blue(samples, pixel);
    }
}

// Over white, rounded as Pillow's paste rounds.
std::uint8_t over_white(unsigned value, unsigned alpha) {
    const unsigned sum = 255 * (255 - alpha) + value * alpha + 128;
    return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8);
}

}  // namespace

PngSamples samples_of(png_const_structp png, png_infop info) {
    PngSamples samples{};
    samples.colour_type = png_get_color_type(png, info);
    samples.bits = png_get_bit_depth(png, info);
    png_colorp palette = nullptr;
    if (png_get_PLTE(png, info, &palette, &samples.palette_size) != 0) {
        samples.palette = palette;
    }
    png_bytep alphas = nullptr;
    png_color_16p key = nullptr;
    if (png_get_tRNS(png, info, &alphas, &samples.alphas_size, &key) != 0) {
        const bool indexed = samples.colour_type == PNG_COLOR_TYPE_PALETTE;
        samples.alphas = alphas;
        samples.transparent = indexed ? nullptr : key;
        samples.alphas_size = indexed ? samples.alphas_size : 0;
    }
    return samples;
}

bool needs_both_bytes(const PngSamples& samples) {
    return samples.bits == 16 && samples.colour_type == PNG_COLOR_TYPE_GRAY &&
           samples.transparent != nullptr;
}

bool is_plain_rgb(const PngSamples& samples) {
    return samples.colour_type == PNG_COLOR_TYPE_RGB && samples.transparent == nullptr;
}

void to_rgb(const PngSamples& samples, const std::uint8_t* pixels, std::size_t pixel_bytes,
            std::size_t count, std::uint8_t* rgb) {
    for (std::size_t i = 0; i < count; ++i, pixels += pixel_bytes) {
        const Colour colour = colour_of(samples, pixels);
        for (std::size_t c = 0; c < 3; ++c) *rgb++ = over_white(colour[c], colour[3]);
    }
}

}  // namespace d2export::runtime
