// A frame with what was answered, and what that cost, drawn over it.
#pragma once

#include <d2export/image.h>

#include <cstdint>
#include <string>
#include <vector>

namespace camera {

struct Picture {
    std::vector<std::uint8_t> bgrx;  // row by row: blue, green, red, and a byte that says nothing
    int width = 0;
    int height = 0;
};

// Throws an Error where this program was built without Pango.
void need_overlay();

// Boxes in the answer, [x1, y1, x2, y2] in thousandths as InternVL writes them, are drawn, too.
Picture draw(const d2export::runtime::Image& image, const std::string& answer,
             const std::string& costs);

// Throws an Error that says what is in the way.
void write_png(Picture& picture, const std::string& path);

}  // namespace camera
