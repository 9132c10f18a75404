#include "picture.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

std::string file_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw BadInput(path + " cannot be read");
    return bytes;
}

std::vector<float> pixel_values(const Picture& picture, std::size_t count) {
    std::vector<float> values(count);
    if (picture.pixels.empty()) {
        std::mt19937 random;
        std::normal_distribution<float> noise;
        for (float& value : values) value = noise(random);
        return values;
    }
    const std::string bytes = file_bytes(picture.pixels);
    if (bytes.size() != count * sizeof(float)) {
        throw BadInput(picture.pixels + " has " + std::to_string(bytes.size()) +
                       " bytes, expected " + std::to_string(count * sizeof(float)));
    }
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

// A token of the thumbnail, which is the whole canvas again, covers as many others as the
// picture has tiles.
std::vector<float> token_grid(const Picture& picture, std::size_t tokens_per_tile) {
    int side = 1;
    while (static_cast<std::size_t>(side) * static_cast<std::size_t>(side) < tokens_per_tile) {
        ++side;
    }
    std::vector<float> grid;
    const auto add_tile = [&](int left, int top, int step_x, int step_y) {
        for (int token = 0; token < side * side; ++token) {
            const auto x = static_cast<float>(token % side) + 0.5f;
            const auto y = static_cast<float>(token / side) + 0.5f;
            grid.push_back(static_cast<float>(left) + x * static_cast<float>(step_x));
            grid.push_back(static_cast<float>(top) + y * static_cast<float>(step_y));
        }
    };
    for (int tile = 0; tile < picture.columns * picture.rows; ++tile) {
        add_tile(tile % picture.columns * side, tile / picture.columns * side, 1, 1);
    }
    if (picture.tiles() > 1) add_tile(0, 0, picture.columns, picture.rows);
    return grid;
}
