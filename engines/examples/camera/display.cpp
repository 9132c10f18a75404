#include "display.h"

#include <gst/app/gstappsrc.h>
#include <gst/video/video.h>

#include "pipeline.h"

namespace camera {
namespace {

// A sink that waits for its clock needs a queue before it.
const char* const kSource =
    "appsrc name=pictures is-live=true do-timestamp=true format=time ! queue ! videoconvert ! ";

class DisplayOfGstreamer : public Display {
 public:
    explicit DisplayOfGstreamer(const std::string& description)
        : pipeline_("--display", description, kSource + description),
          source_(pipeline_.element("pictures")) {
        pipeline_.play();
    }

    void show(const Picture& picture) override {
        pipeline_.check();
        GstVideoInfo info;
        gst_video_info_set_format(&info, GST_VIDEO_FORMAT_BGRx, static_cast<guint>(picture.width),
                                  static_cast<guint>(picture.height));
        const Owned<GstCaps> caps(gst_video_info_to_caps(&info));
        GstBuffer* buffer = gst_buffer_new_allocate(nullptr, picture.bgrx.size(), nullptr);
        gst_buffer_fill(buffer, 0, picture.bgrx.data(), picture.bgrx.size());
        auto* source = GST_APP_SRC(source_.get());
        gst_app_src_set_caps(source, caps.get());
        gst_app_src_push_buffer(source, buffer);  // which owns it from now on
    }

    void end() override {
        gst_app_src_end_of_stream(GST_APP_SRC(source_.get()));
        pipeline_.drain();
    }

 private:
    Pipeline pipeline_;
    Owned<GstElement> source_;
};

}  // namespace

std::unique_ptr<Display> display_of_gstreamer(const std::string& description) {
    return std::make_unique<DisplayOfGstreamer>(description);
}

}  // namespace camera
