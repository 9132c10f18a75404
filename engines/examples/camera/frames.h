// Where frames come from.
#pragma once

#include <d2export/image.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace camera {

struct Frame {
    std::string name;                                // fit for a file
    std::function<d2export::runtime::Image()> read;  // throws an Error about this frame alone
};

class Frames {
 public:
    virtual ~Frames() = default;
    // Waits for the next frame; nothing when there will be none.
    virtual std::optional<Frame> next() = 0;
};

// The pictures in a folder, in the order of their names; with `follow` it waits for more.
std::unique_ptr<Frames> frames_of_folder(const std::string& folder, bool follow);

// What a GStreamer pipeline gives: always its newest frame, those before are dropped.
std::unique_ptr<Frames> frames_of_gstreamer(const std::string& description);

}  // namespace camera
