// <d2export/image.h> for ctypes. Every call returns true, or false with the reason in `why`, which
// has room for kReason bytes.
#include <d2export/error.h>
#include <d2export/image.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace {

using namespace d2export::runtime;

constexpr std::size_t kReason = 1000;

template <typename Call>
bool attempt(char* why, const Call& call) {
    try {
        call();
        return true;
    } catch (const Error& error) {
        std::snprintf(why, kReason, "%s\n%s", error.what(), error.hint());
        return false;
    }
}

void copy_out(const Image& image, std::uint8_t* rgb, std::size_t capacity, int* sides) {
    sides[0] = image.width;
    sides[1] = image.height;
    std::memcpy(rgb, image.rgb.data(), std::min(capacity, image.rgb.size()));
}

}  // namespace

extern "C" {

// `sides` gets width and height; of the pixels as many as there is room for.
D2EXPORT_API bool image_read(const char* path, std::uint8_t* rgb, std::size_t capacity, int* sides,
                             char* why) {
    return attempt(why, [&] { copy_out(read_image(path), rgb, capacity, sides); });
}

D2EXPORT_API bool image_decode(const std::uint8_t* data, std::size_t size, std::uint8_t* rgb,
                               std::size_t capacity, int* sides, char* why) {
    return attempt(why, [&] { copy_out(decode_image(data, size), rgb, capacity, sides); });
}

// `counts` gets the tiles and the numbers in the grid.
D2EXPORT_API bool image_prepare(const std::uint8_t* rgb, std::size_t bytes, int width, int height,
                                const VisionSpec* vision, float* pixels,
                                std::size_t pixels_capacity, float* grid, std::size_t grid_capacity,
                                std::int64_t* counts, char* why) {
    return attempt(why, [&] {
        const Tiles tiles = prepare(Image{{rgb, rgb + bytes}, width, height}, *vision);
        counts[0] = tiles.tiles;
        counts[1] = static_cast<std::int64_t>(tiles.grid.size());
        std::copy_n(tiles.pixels.begin(), std::min(pixels_capacity, tiles.pixels.size()), pixels);
        std::copy_n(tiles.grid.begin(), std::min(grid_capacity, tiles.grid.size()), grid);
    });
}

}  // extern "C"
