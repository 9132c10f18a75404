// Pictures, sent to a GStreamer pipeline: a screen, a file or a network.
#pragma once

#include <memory>
#include <string>

#include "overlay.h"

namespace camera {

class Display {
 public:
    virtual ~Display() = default;
    virtual void show(const Picture& picture) = 0;
    // Waits until all has arrived.
    virtual void end() = 0;
};

std::unique_ptr<Display> display_of_gstreamer(const std::string& description);

}  // namespace camera
