#include <d2export/error.h>

#include "display.h"
#include "frames.h"

namespace camera {
namespace {

d2export::runtime::Error without_gstreamer(const std::string& option) {
    return d2export::runtime::misfit(
        option + " needs GStreamer, and this program was built without it",
        "apt-get install libgstreamer-plugins-base1.0-dev gstreamer1.0-plugins-base "
        "gstreamer1.0-plugins-good, and build it again.");
}

}  // namespace

std::unique_ptr<Frames> frames_of_gstreamer(const std::string&) {
    throw without_gstreamer("--gstreamer");
}

std::unique_ptr<Display> display_of_gstreamer(const std::string&) {
    throw without_gstreamer("--display");
}

}  // namespace camera
