// Pictures made smaller and larger as Pillow does it, bit for bit.
//
// Pillow's Image.resize (its ImagingResample) convolves with a bicubic kernel, stretched when a
// picture shrinks, along one side and then along the other. Weights are computed in double
// precision, then rounded to 22 fractional bits; sums are of integers, and each pass rounds to 8
// bits.
#pragma once

#include <d2export/image.h>

#include <cstdint>
#include <vector>

namespace d2export::runtime {

// How one side of `from` pixels becomes one of `to`.
class Weights {
 public:
    Weights(int from, int to);

    // Pixel `to` is the sum over i in [0, count) of values[i] times the source's pixel first + i.
    struct Pixel {
        int first;
        int count;
        const std::int32_t* values;
    };
    Pixel operator[](int to) const {
        const auto at = static_cast<std::size_t>(to);
        return {spans_[at].first, spans_[at].count, values_.data() + at * stride_};
    }
    int size() const { return static_cast<int>(spans_.size()); }

 private:
    struct Span {
        int first;
        int count;
    };
    std::vector<Span> spans_;
    std::vector<std::int32_t> values_;
    std::size_t stride_;
};

// One row of RGB along x: `out` has `weights.size()` pixels.
void resize_row(const std::uint8_t* row, const Weights& weights, std::uint8_t* out);

// All of a picture along x, or along y. One that has the side already stays as it is.
Image resize_rows(Image image, int width);
Image resize_columns(Image image, int height);

// Pillow's image.resize((width, height), Image.Resampling.BICUBIC).
//
// As of Pillow 13 the pass along y comes first where it takes away more than twice as many pixels
// of the height as the other of the width; before, the one along x always did. The order changes a
// pixel by 1 here and there.
Image resize(const Image& image, int width, int height);

}  // namespace d2export::runtime
