/// @file
/// The sizes of a model, as a bundle's manifest has them. Plain values, copied freely.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace d2export::runtime {

/// How a picture becomes tiles (`model.vision.image` in the manifest).
///
/// `max_tiles` above 1 cuts a picture into a grid of up to that many square tiles and appends a
/// thumbnail of the whole (InternVL); `pad_to_square` pads it with the mean colour (LLaVA).
struct ImageSpec {
    std::int64_t size;           ///< side of a tile in pixels
    std::array<double, 3> mean;  ///< of red, green, blue, 0 to 1
    std::array<double, 3> std;   ///< the same, above 0
    std::int64_t max_tiles;
    bool pad_to_square;
};

/// The vision tower and its projector (`model.vision`), as far as running it needs to know.
struct VisionSpec {
    ImageSpec image;
    std::int64_t patch;       ///< side of a patch in pixels
    std::int64_t downsample;  ///< patches along one side of a visual token

    /// Visual tokens along one side of a tile.
    std::int64_t tokens_per_side() const { return image.size / patch / downsample; }
    /// Visual tokens of one tile.
    std::int64_t tokens_per_tile() const { return tokens_per_side() * tokens_per_side(); }
};

/// The language model (`model.text`), as far as running it needs to know.
struct TextSpec {
    std::string backbone;
    std::int64_t hidden;
    std::int64_t layers;
    std::int64_t heads;
    std::int64_t kv_heads;
    std::int64_t vocab;          ///< rows of the embedding table
    std::int64_t max_positions;  ///< the longest context, in tokens

    /// Channels of one attention head.
    std::int64_t head_dim() const { return hidden / heads; }
};

}  // namespace d2export::runtime
