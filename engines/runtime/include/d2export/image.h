/// @file
/// Pictures: read from a file or from memory, cut into the tiles a vision graph takes.
///
/// All functions are free of state and may be called from any number of threads at once.
#pragma once

#include <d2export/export.h>
#include <d2export/model_spec.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace d2export::runtime {

/// A picture in memory: `height` rows of `width` pixels, each red, green, blue.
struct Image {
    std::vector<std::uint8_t> rgb;
    int width = 0;
    int height = 0;
};

/// The picture in a file, upright (EXIF), transparency over white; of several frames the first.
///
/// @throws Error the file is missing, no picture, damaged, too large, or of impossible sides.
D2EXPORT_API Image read_image(const std::string& path);

/// The picture in the `size` bytes of a file at `data`, which are only read during the call.
///
/// @throws Error as read_image().
D2EXPORT_API Image decode_image(const std::uint8_t* data, std::size_t size);

/// A picture as a vision graph takes it.
struct Tiles {
    /// `[tiles, 3, side, side]`, RGB, `(value / 255 - mean) / std`; a thumbnail, if any, last.
    std::vector<float> pixels;
    /// The same on the GPU, somebody else's, instead of `pixels`; read during calls only.
    const float* device_pixels = nullptr;
    std::int64_t tiles = 0;
    /// `[tokens, 2]`, the centre (x, y) of each visual token on the canvas, in token units.
    std::vector<float> grid;
};

/// Cuts, resizes and normalises a picture as the model's published preprocessing does.
///
/// @throws Error the picture is empty, or its `rgb` does not hold width x height x 3 bytes.
D2EXPORT_API Tiles prepare(const Image& image, const VisionSpec& vision);

/// A picture that was cut and normalised on the GPU already, by a camera's pipeline for instance;
/// it is not copied.
///
/// @param pixels `[tiles, 3, side, side]` in the GPU's memory, as Tiles::pixels. It must be written
///     by the time of a call, or by work that was put on TensorRtOptions::stream before. `tiles` is
///     `columns` x `rows`, and one more behind them, the thumbnail, if that is above 1.
/// @param columns, rows how many tiles lie beside and below each other
/// @throws Error `pixels` is null, or the model takes no such number of tiles.
D2EXPORT_API Tiles tiles_on_device(const float* pixels, int columns, int rows,
                                   const VisionSpec& vision);

}  // namespace d2export::runtime
