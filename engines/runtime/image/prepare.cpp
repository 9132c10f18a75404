// The public call of <d2export/image.h> that cuts a picture for a vision graph.
#include <d2export/error.h>
#include <d2export/image.h>

#include <algorithm>
#include <array>
#include <string>

#include "tiling.h"

namespace d2export::runtime {
namespace {

constexpr std::size_t kChannels = 3;
constexpr std::size_t kLevels = 256;

void check(const Image& image) {
    const bool has_sides = image.width > 0 && image.height > 0;
    const std::size_t pixels =
        has_sides ? static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height)
                  : 0;
    if (has_sides && image.rgb.size() == pixels * kChannels) return;
    throw bad_input("the image is " + std::to_string(image.width) + "x" +
                        std::to_string(image.height) + " pixels and has " +
                        std::to_string(image.rgb.size()) + " bytes, expected " +
                        (has_sides ? std::to_string(pixels * kChannels) : "sides above 0"),
                    "Give it width x height pixels of red, green and blue.");
}

// What each level of a channel becomes. Every step is rounded to float32, as torchvision's ToTensor
// and Normalize round it.
using Levels = std::array<std::array<float, kLevels>, kChannels>;

Levels normalized(const ImageSpec& spec) {
    Levels levels;
    for (std::size_t c = 0; c < kChannels; ++c) {
        for (std::size_t value = 0; value < kLevels; ++value) {
            float level = static_cast<float>(value);
            level /= 255.0f;
            level -= static_cast<float>(spec.mean[c]);
            level /= static_cast<float>(spec.std[c]);
            levels[c][value] = level;
        }
    }
    return levels;
}

}  // namespace

Tiles prepare(const Image& image, const VisionSpec& vision) {
    check(image);
    const ImageSpec& spec = vision.image;
    const int size = static_cast<int>(spec.size);
    Grid grid{1, 1};
    std::vector<Image> cells;
    if (spec.pad_to_square) {
        cells.push_back(pad_to_square(image, spec));
    } else {
        grid = choose_grid(image.width, image.height, size, static_cast<int>(spec.max_tiles));
        cells = cut(image, grid, size);
    }

    const Levels levels = normalized(spec);
    const std::size_t plane = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
    Tiles tiles;
    tiles.tiles = static_cast<std::int64_t>(cells.size());
    tiles.pixels.resize(cells.size() * kChannels * plane);
    float* out = tiles.pixels.data();
    for (const Image& cell : cells) {
        for (std::size_t c = 0; c < kChannels; ++c) {
            for (std::size_t i = 0; i < plane; ++i) {
                *out++ = levels[c][cell.rgb[i * kChannels + c]];
            }
        }
    }
    tiles.grid = token_grid(grid, static_cast<int>(vision.tokens_per_side()));
    return tiles;
}

Tiles tiles_on_device(const float* pixels, int columns, int rows, const VisionSpec& vision) {
    if (pixels == nullptr) {
        throw bad_input("the pixels on the GPU are null", "Pass where they lie.");
    }
    const std::int64_t most = vision.image.max_tiles;
    if (columns < 1 || rows < 1 || columns > most || rows > most / columns) {
        throw bad_input("the picture has " + std::to_string(columns) + " x " +
                            std::to_string(rows) + " tiles, expected at least 1 x 1 and at most " +
                            std::to_string(most) + " in all",
                        "Cut it as docs/bundle.md says.");
    }
    const Grid grid{columns, rows};
    Tiles tiles;
    tiles.device_pixels = pixels;
    tiles.tiles = grid.cells() + (grid.cells() > 1 ? 1 : 0);
    tiles.grid = token_grid(grid, static_cast<int>(vision.tokens_per_side()));
    return tiles;
}

}  // namespace d2export::runtime
