// What the vision engine is given of a picture.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

// What was passed is wrong; std::runtime_error is for what TensorRT or CUDA refuse.
using BadInput = std::invalid_argument;

struct Picture {
    int columns = 1, rows = 1;  // of its tiles
    std::string pixels;         // a file of float32, or empty for noise

    // With the thumbnail, which is the last one.
    int tiles() const { return columns * rows + (columns * rows > 1 ? 1 : 0); }
};

std::string file_bytes(const std::string& path);

// [tiles, 3, S, S], `count` numbers in all.
std::vector<float> pixel_values(const Picture& picture, std::size_t count);

// [tokens, 2], the centre (x, y) of each visual token on the canvas of all tiles, in tokens.
std::vector<float> token_grid(const Picture& picture, std::size_t tokens_per_tile);
