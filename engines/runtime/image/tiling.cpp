#include "tiling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "resample.h"

namespace d2export::runtime {
namespace {

constexpr std::size_t kChannels = 3;

// The part of a canvas that is one cell of a grid.
Image cell(const Image& canvas, int column, int row, int size) {
    const std::size_t bytes = static_cast<std::size_t>(size) * kChannels;
    Image out{std::vector<std::uint8_t>(bytes * static_cast<std::size_t>(size)), size, size};
    for (int y = 0; y < size; ++y) {
        const auto line =
            static_cast<std::size_t>(row * size + y) * static_cast<std::size_t>(canvas.width);
        const std::size_t from = (line + static_cast<std::size_t>(column * size)) * kChannels;
        std::memcpy(out.rgb.data() + bytes * static_cast<std::size_t>(y), canvas.rgb.data() + from,
                    bytes);
    }
    return out;
}

std::array<std::uint8_t, kChannels> mean_colour(const ImageSpec& spec) {
    std::array<std::uint8_t, kChannels> colour;
    std::transform(spec.mean.begin(), spec.mean.end(), colour.begin(), [](double mean) {
        return static_cast<std::uint8_t>(std::clamp(mean, 0.0, 1.0) * 255);
    });
    return colour;
}

void fill(std::vector<std::uint8_t>& rgb, const std::array<std::uint8_t, kChannels>& colour) {
    for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = colour[i % kChannels];
}

}  // namespace

Grid choose_grid(int width, int height, int size, int max_tiles) {
    std::vector<Grid> grids;
    for (int columns = 1; columns <= max_tiles; ++columns) {
        for (int rows = 1; rows <= max_tiles / columns; ++rows) grids.push_back({columns, rows});
    }
    std::stable_sort(grids.begin(), grids.end(),
                     [](const Grid& a, const Grid& b) { return a.cells() < b.cells(); });
    const auto distance = [&](const Grid& grid) {
        return std::fabs(static_cast<double>(width) / height -
                         static_cast<double>(grid.columns) / grid.rows);
    };
    const double pixels = static_cast<double>(width) * height;
    const Grid* best = &grids.front();
    for (const Grid& grid : grids) {
        const double half = 0.5 * size * size * grid.columns * grid.rows;
        const bool equal = distance(grid) == distance(*best);
        if (distance(grid) < distance(*best) || (equal && &grid != best && pixels > half)) {
            best = &grid;
        }
    }
    return *best;
}

std::vector<Image> cut(const Image& image, const Grid& grid, int size) {
    const Image canvas = resize(image, grid.columns * size, grid.rows * size);
    std::vector<Image> tiles;
    for (int row = 0; row < grid.rows; ++row) {
        for (int column = 0; column < grid.columns; ++column) {
            tiles.push_back(cell(canvas, column, row, size));
        }
    }
    if (grid.cells() > 1) tiles.push_back(resize(image, size, size));
    return tiles;
}

// The square itself, for a long picture up to 200 times as large, is never there: each of its rows
// is made narrow by itself, and rows of nothing but padding keep their colour.
Image pad_to_square(const Image& image, const ImageSpec& spec) {
    const int size = static_cast<int>(spec.size);
    const int side = std::max(image.width, image.height);
    const int left = (side - image.width) / 2, top = (side - image.height) / 2;
    const std::size_t bytes = static_cast<std::size_t>(size) * kChannels;
    Image narrow{std::vector<std::uint8_t>(bytes * static_cast<std::size_t>(side)), size, side};
    fill(narrow.rgb, mean_colour(spec));
    std::vector<std::uint8_t> padded(static_cast<std::size_t>(side) * kChannels);
    fill(padded, mean_colour(spec));
    const Weights weights(side, size);
    const std::size_t row = static_cast<std::size_t>(image.width) * kChannels;
    for (int y = 0; y < image.height; ++y) {
        std::memcpy(padded.data() + static_cast<std::size_t>(left) * kChannels,
                    image.rgb.data() + row * static_cast<std::size_t>(y), row);
        std::uint8_t* out = narrow.rgb.data() + bytes * static_cast<std::size_t>(top + y);
        if (side == size) {
            std::memcpy(out, padded.data(), bytes);
        } else {
            resize_row(padded.data(), weights, out);
        }
    }
    return resize_columns(std::move(narrow), size);
}

std::vector<float> token_grid(const Grid& grid, int tokens_per_side) {
    std::vector<float> centres;
    const auto add_tile = [&](int left, int top, int step_x, int step_y) {
        for (int y = 0; y < tokens_per_side; ++y) {
            for (int x = 0; x < tokens_per_side; ++x) {
                const float centre_x = static_cast<float>(x) + 0.5f;
                const float centre_y = static_cast<float>(y) + 0.5f;
                centres.push_back(static_cast<float>(left) + centre_x * static_cast<float>(step_x));
                centres.push_back(static_cast<float>(top) + centre_y * static_cast<float>(step_y));
            }
        }
    };
    for (int row = 0; row < grid.rows; ++row) {
        for (int column = 0; column < grid.columns; ++column) {
            add_tile(column * tokens_per_side, row * tokens_per_side, 1, 1);
        }
    }
    if (grid.cells() > 1) add_tile(0, 0, grid.columns, grid.rows);
    return centres;
}

}  // namespace d2export::runtime
