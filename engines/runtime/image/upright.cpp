#include <cstring>
#include <utility>

#include "decoded.h"

namespace d2export::runtime {
namespace {

constexpr std::size_t kChannels = 3;

// How a file's pixel (x, y) is found from the upright one: transposed first, then mirrored.
struct Turn {
    bool transposed;
    bool from_right;
    bool from_below;
};

constexpr Turn kTurns[] = {
    {false, false, false}, {false, false, false}, {false, true, false},
    {false, true, true},   {false, false, true},  {true, false, false},
    {true, false, true},   {true, true, true},    {true, true, false},
};

}  // namespace

Image turn_upright(Image image, Orientation orientation) {
    if (orientation <= kUpright || orientation >= std::size(kTurns)) return image;
    const Turn turn = kTurns[orientation];
    Image upright;
    upright.width = turn.transposed ? image.height : image.width;
    upright.height = turn.transposed ? image.width : image.height;
    upright.rgb.resize(image.rgb.size());
    std::uint8_t* out = upright.rgb.data();
    for (int y = 0; y < upright.height; ++y) {
        for (int x = 0; x < upright.width; ++x) {
            const int column = turn.transposed ? y : x, row = turn.transposed ? x : y;
            const int from_x = turn.from_right ? image.width - 1 - column : column;
            const int from_y = turn.from_below ? image.height - 1 - row : row;
            const auto pixel =
                static_cast<std::size_t>(from_y) * static_cast<std::size_t>(image.width) +
                static_cast<std::size_t>(from_x);
            std::memcpy(out, image.rgb.data() + pixel * kChannels, kChannels);
            out += kChannels;
        }
    }
    return upright;
}

}  // namespace d2export::runtime
