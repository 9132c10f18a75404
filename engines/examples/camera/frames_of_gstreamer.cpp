// A camera gives more frames than a model answers: the sink keeps the newest only.
#include <d2export/error.h>
#include <gst/app/gstappsink.h>
#include <gst/video/video.h>

#include <cstdio>

#include "frames.h"
#include "pipeline.h"

namespace camera {
namespace {

using d2export::runtime::bad_input;
using d2export::runtime::Image;
using d2export::runtime::misfit;

const char* const kSink =
    " ! videoconvert ! appsink name=newest caps=video/x-raw,format=RGB max-buffers=1 drop=true";
constexpr GstClockTime kLook = 100 * GST_MSECOND;   // between looks for what went wrong
constexpr GstClockTime kSilence = 10 * GST_SECOND;  // a camera that gives nothing is broken

// GStreamer's rows end where it likes; an Image's follow each other.
Image copy(GstSample* sample) {
    GstVideoInfo info;
    GstVideoFrame frame;
    if (gst_video_info_from_caps(&info, gst_sample_get_caps(sample)) == FALSE ||
        gst_video_frame_map(&frame, &info, gst_sample_get_buffer(sample), GST_MAP_READ) == FALSE) {
        throw misfit("a frame of --gstreamer cannot be read from memory",
                     "Try it with gst-launch-1.0, ' ! videoconvert ! fakesink' at its end.");
    }
    Image image;
    image.width = GST_VIDEO_FRAME_WIDTH(&frame);
    image.height = GST_VIDEO_FRAME_HEIGHT(&frame);
    const auto* row = static_cast<const std::uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&frame, 0));
    for (int y = 0; y < image.height; ++y, row += GST_VIDEO_FRAME_PLANE_STRIDE(&frame, 0)) {
        image.rgb.insert(image.rgb.end(), row, row + 3 * image.width);
    }
    gst_video_frame_unmap(&frame);
    return image;
}

class FramesOfGstreamer : public Frames {
 public:
    explicit FramesOfGstreamer(const std::string& description)
        : pipeline_("--gstreamer", description, description + kSink),
          sink_(pipeline_.element("newest")) {
        // A file is played at its pace; a camera has its own, and waiting for a clock only delays.
        if (pipeline_.open()) g_object_set(sink_.get(), "sync", FALSE, nullptr);
        pipeline_.play();
    }

    std::optional<Frame> next() override {
        auto* sink = GST_APP_SINK(sink_.get());
        for (GstClockTime silence = 0; silence < kSilence; silence += kLook) {
            if (GstSample* pulled = gst_app_sink_try_pull_sample(sink, kLook)) {
                const std::shared_ptr<GstSample> sample(pulled, Unref());
                return Frame{name(pulled), [sample] { return copy(sample.get()); }};
            }
            pipeline_.check();
            if (gst_app_sink_is_eos(sink) != FALSE) {
                if (count_ > 0) return std::nullopt;
                throw bad_input(
                    pipeline_.said("ended without a frame"),
                    "Try it with gst-launch-1.0 -v, ' ! videoconvert ! fakesink' at its end.");
            }
        }
        throw misfit(
            pipeline_.said("gave no frame for " + std::to_string(kSilence / GST_SECOND) + " s"),
            "See that the camera is connected and that nothing else reads from it.");
    }

 private:
    // When it was taken, in seconds since the start; of what knows no time, which one it is.
    std::string name(GstSample* sample) {
        ++count_;
        const GstClockTime taken = GST_BUFFER_PTS(gst_sample_get_buffer(sample));
        char text[40];
        if (GST_CLOCK_TIME_IS_VALID(taken)) {
            std::snprintf(text, sizeof text, "%010.3fs", static_cast<double>(taken) / GST_SECOND);
        } else {
            std::snprintf(text, sizeof text, "%06llu", count_);
        }
        return text;
    }

    Pipeline pipeline_;
    Owned<GstElement> sink_;
    unsigned long long count_ = 0;
};

}  // namespace

std::unique_ptr<Frames> frames_of_gstreamer(const std::string& description) {
    return std::make_unique<FramesOfGstreamer>(description);
}

}  // namespace camera
