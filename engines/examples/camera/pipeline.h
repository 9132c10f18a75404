// A pipeline of GStreamer that runs, and what it complains about.
#pragma once

#include <gst/gst.h>

#include <memory>
#include <string>

namespace camera {

struct Unref {
    void operator()(GstElement* element) const { gst_object_unref(element); }
    void operator()(GstBus* bus) const { gst_object_unref(bus); }
    void operator()(GstCaps* caps) const { gst_caps_unref(caps); }
    void operator()(GstMessage* message) const { gst_message_unref(message); }
    void operator()(GstSample* sample) const { gst_sample_unref(sample); }
    void operator()(GError* error) const { g_error_free(error); }
    void operator()(char* text) const { g_free(text); }
};

// Counted by GStreamer; owned here.
template <typename Object>
using Owned = std::unique_ptr<Object, Unref>;

class Pipeline {
 public:
    // Throws an Error: of kInput where the description is wrong, of kMachine where an element of it
    // is not installed.
    //
    // option: what messages call it
    // description: what the user wrote
    // all: the description with our own end of it
    Pipeline(std::string option, std::string description, const std::string& all);
    ~Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    Owned<GstElement> element(const char* name) const;

    // Opens files and devices; whether it is live, as a camera is. Throws as check().
    bool open();
    // Throws as check().
    void play();

    // Throws what went wrong since the last call, if anything did; prints what it warns of.
    void check();

    // Waits until all that was given to it has come out at its end. Throws as check().
    void drain();

    // For messages: the option, the description, and what is to say about them.
    std::string said(const std::string& what) const;

 private:
    // Whether it ended in time, GST_MESSAGE_EOS being one of the types. Throws as check().
    bool wait(GstClockTime nanoseconds, int types);

    std::string option_, description_;
    Owned<GstElement> pipeline_;
    Owned<GstBus> bus_;
};

}  // namespace camera
