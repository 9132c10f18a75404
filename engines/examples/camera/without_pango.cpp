#include <d2export/error.h>

#include "overlay.h"

namespace camera {

void need_overlay() {
    throw d2export::runtime::misfit(
        "--show and --display draw with Pango, and this program was built without it",
        "apt-get install libpango1.0-dev, and build it again.");
}

Picture draw(const d2export::runtime::Image&, const std::string&, const std::string&) {
    need_overlay();
    return {};
}

void write_png(Picture&, const std::string&) { need_overlay(); }

}  // namespace camera
