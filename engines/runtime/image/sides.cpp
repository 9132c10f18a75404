#include <d2export/error.h>

#include <algorithm>
#include <string>

#include "decoded.h"

namespace d2export::runtime {
namespace {

// As d2export/models/images.py has them; the last is Pillow's Image.MAX_IMAGE_PIXELS.
constexpr std::uint64_t kMinSide = 2;
constexpr std::uint64_t kMaxAspect = 200;
constexpr std::uint64_t kMaxPixels = 89'478'485;

}  // namespace

void check_sides(std::uint64_t width, std::uint64_t height) {
    const std::string found = std::to_string(width) + "x" + std::to_string(height) + " pixels";
    if (std::min(width, height) < kMinSide) {
        throw bad_input("the picture is " + found + ", expected at least 2x2",
                        "Use a larger picture.");
    }
    if (width > kMaxPixels / height) {
        throw bad_input(
            "the picture is " + found + ", expected at most " + std::to_string(kMaxPixels),
            "Scale the picture down first.");
    }
    if (std::max(width, height) > kMaxAspect * std::min(width, height)) {
        throw bad_input(
            "the picture is " + found + ", expected sides of at most 200:1",
            "Crop the picture: squeezed into square tiles nothing in it could be recognised.");
    }
}

}  // namespace d2export::runtime
