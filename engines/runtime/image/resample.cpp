#include "resample.h"

#include <algorithm>
#include <cmath>

namespace d2export::runtime {
namespace {

constexpr std::size_t kChannels = 3;
constexpr int kPrecisionBits = 22;
constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);
constexpr double kSupport = 2.0;  // of the kernel, in pixels

// The bicubic kernel with a = -0.5, each step in the order Pillow rounds it.
double bicubic(double x) {
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

std::int32_t fixed_point(double weight) {
    return static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kPrecisionBits));
}

std::uint8_t to_byte(std::int32_t sum) {
    return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

std::size_t row_bytes(int width) { return static_cast<std::size_t>(width) * kChannels; }

}  // namespace

Weights::Weights(int from, int to) : spans_(static_cast<std::size_t>(to)) {
    const double scale = static_cast<double>(from) / to;
    const double stretch = std::max(scale, 1.0);
    const double support = kSupport * stretch;
    stride_ = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
    values_.resize(stride_ * spans_.size());
    std::vector<double> exact(stride_);
    const double per_pixel = 1.0 / stretch;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
        const double centre = (static_cast<double>(i) + 0.5) * scale;
        const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        const int last = std::min(static_cast<int>(centre + support + 0.5), from);
        spans_[i] = {first, last - first};
        double sum = 0;
        for (int x = first; x < last; ++x) {
            const double weight = bicubic((x - centre + 0.5) * per_pixel);
            exact[static_cast<std::size_t>(x - first)] = weight;
            sum += weight;
        }
        for (std::size_t x = 0; x < static_cast<std::size_t>(last - first); ++x) {
            values_[i * stride_ + x] = fixed_point(sum != 0 ? exact[x] / sum : exact[x]);
        }
    }
}

void resize_row(const std::uint8_t* row, const Weights& weights, std::uint8_t* out) {
    for (int x = 0; x < weights.size(); ++x) {
        const Weights::Pixel pixel = weights[x];
        const std::uint8_t* from = row + row_bytes(pixel.first);
        std::int32_t red = kHalf, green = kHalf, blue = kHalf;
        for (int i = 0; i < pixel.count; ++i, from += kChannels) {
            red += from[0] * pixel.values[i];
            green += from[1] * pixel.values[i];
            blue += from[2] * pixel.values[i];
        }
        *out++ = to_byte(red);
        *out++ = to_byte(green);
        *out++ = to_byte(blue);
    }
}

Image resize_rows(Image image, int width) {
    if (width == image.width) return image;
    const Weights weights(image.width, width);
    const auto rows = static_cast<std::size_t>(image.height);
    Image out{std::vector<std::uint8_t>(row_bytes(width) * rows), width, image.height};
    for (std::size_t y = 0; y < rows; ++y) {
        resize_row(image.rgb.data() + row_bytes(image.width) * y, weights,
                   out.rgb.data() + row_bytes(width) * y);
    }
    return out;
}

Image resize_columns(Image image, int height) {
    if (height == image.height) return image;
    const Weights weights(image.height, height);
    const std::size_t row = row_bytes(image.width);
    Image out{std::vector<std::uint8_t>(row * static_cast<std::size_t>(height)), image.width,
              height};
    std::vector<std::int32_t> sums(row);
    for (int y = 0; y < height; ++y) {
        const Weights::Pixel pixel = weights[y];
        std::fill(sums.begin(), sums.end(), kHalf);
        for (int i = 0; i < pixel.count; ++i) {
            const std::uint8_t* from =
                image.rgb.data() + row * static_cast<std::size_t>(pixel.first + i);
            const std::int32_t weight = pixel.values[i];
            for (std::size_t x = 0; x < row; ++x) sums[x] += from[x] * weight;
        }
        std::transform(sums.begin(), sums.end(),
                       out.rgb.begin() + static_cast<std::ptrdiff_t>(row) * y, to_byte);
    }
    return out;
}

Image resize(const Image& image, int width, int height) {
    const int shorter = image.height - height, narrower = image.width - width;
    const bool columns_first = shorter > 0 && shorter > 2 * narrower;
    return columns_first ? resize_rows(resize_columns(image, height), width)
                         : resize_columns(resize_rows(image, width), height);
}

}  // namespace d2export::runtime
