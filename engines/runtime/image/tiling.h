// A picture becomes square tiles: d2export/models/tiling.py in C++.
#pragma once

#include <d2export/image.h>

#include <vector>

namespace d2export::runtime {

struct Grid {
    int columns;
    int rows;

    int cells() const { return columns * rows; }
};

// The grid whose aspect ratio is nearest to the picture's, of at most `max_tiles` cells; among
// equally near ones, from few to many, a later one wins if the picture has more than half its
// pixels.
Grid choose_grid(int width, int height, int size, int max_tiles);

// Squares of `size` pixels, RGB, in the order the vision graph takes them: InternVL's tiles row by
// row and then the whole picture if they are several, or LLaVA's one with its padding.
std::vector<Image> cut(const Image& image, const Grid& grid, int size);
Image pad_to_square(const Image& image, const ImageSpec& spec);

// `[tokens, 2]`, the centre (x, y) of each visual token on the canvas.
std::vector<float> token_grid(const Grid& grid, int tokens_per_side);

}  // namespace d2export::runtime
