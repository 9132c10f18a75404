// Any bytes as the file of a picture: refused with a reason, or decoded into one.
#include <d2export/error.h>
#include <d2export/image.h>

#include <cstdlib>
#include <string_view>
#include <vector>

namespace {

using namespace std::string_view_literals;

// Half the inputs begin as the formats do, for fuzzers that cannot see what is compared.
constexpr std::string_view kHeads[] = {
    ""sv,
    "\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08\0\x08\0\x08\1\1\x11\0"sv,
    "\xff\xd8\xff\xe1\0\x40"
    "Exif\0\0"sv,
    "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x04\0\0\0\x04\x08\2\0\0\0\x26\x93\x09\x29"sv,
};

// Larger pictures are fuzzed no better, only slower.
constexpr int kSmall = 256;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace d2export::runtime;
    if (size == 0) return 0;
    const std::string_view head = kHeads[data[0] % std::size(kHeads)];
    std::vector<std::uint8_t> file(head.begin(), head.end());
    file.insert(file.end(), data + 1, data + size);
    try {
        const Image image = decode_image(file.data(), file.size());
        const auto pixels =
            static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
        if (image.rgb.size() != pixels * 3) std::abort();
        if (image.width > kSmall || image.height > kSmall) return 0;
        const VisionSpec vision{{28, {0.5, 0.4, 0.3}, {0.2, 0.3, 0.4}, 4, data[0] > 127}, 14, 1};
        if (prepare(image, vision).grid.empty()) std::abort();
    } catch (const Error& error) {
        if (std::string_view(error.what()).empty()) std::abort();
    }
    return 0;
}
