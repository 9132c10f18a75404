#include "pipeline.h"

#include <d2export/error.h>

#include <iostream>

namespace camera {
namespace {

using d2export::runtime::Blame;
using d2export::runtime::Error;

constexpr GstClockTime kDrain = 10 * GST_SECOND;
constexpr int kProblems = GST_MESSAGE_ERROR | GST_MESSAGE_WARNING;
const char* const kTry = "Try it with gst-launch-1.0, with GST_DEBUG=3 in the environment.";

bool lacks_an_element(const GError& error) {
    return error.domain == GST_PARSE_ERROR && error.code == GST_PARSE_ERROR_NO_SUCH_ELEMENT;
}

// What the user wrote is to blame for a stream that does not fit or a file that is not there.
bool is_of_the_machine(const GError& error) {
    if (error.domain == GST_RESOURCE_ERROR) return error.code != GST_RESOURCE_ERROR_NOT_FOUND;
    if (error.domain == GST_STREAM_ERROR) return error.code == GST_STREAM_ERROR_CODEC_NOT_FOUND;
    return true;
}

}  // namespace

Pipeline::Pipeline(std::string option, std::string description, const std::string& all)
    : option_(std::move(option)), description_(std::move(description)) {
    GError* found = nullptr;
    if (gst_init_check(nullptr, nullptr, &found) == FALSE) {
        const Owned<GError> error(found);
        throw Error(Blame::kMachine, std::string("GStreamer does not start: ") + error->message,
                    "See that it is installed completely: gst-inspect-1.0");
    }
    GstElement* made =
        gst_parse_launch_full(all.c_str(), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &found);
    const Owned<GError> error(found);
    if (made == nullptr) {
        const std::string problem = said(std::string("cannot be made: ") + error->message);
        throw lacks_an_element(*error)
            ? Error(Blame::kMachine, problem,
                    "Install the plugin it is in, or correct its name; gst-inspect-1.0 lists all.")
            : Error(
                  Blame::kInput, problem,
                  "Write it as for gst-launch-1.0; --gstreamer has no sink, --display no source.");
    }
    pipeline_.reset(GST_ELEMENT(gst_object_ref_sink(made)));
    bus_.reset(gst_element_get_bus(made));
}

Pipeline::~Pipeline() { gst_element_set_state(pipeline_.get(), GST_STATE_NULL); }

Owned<GstElement> Pipeline::element(const char* name) const {
    return Owned<GstElement>(gst_bin_get_by_name(GST_BIN(pipeline_.get()), name));
}

bool Pipeline::open() {
    const auto state = gst_element_set_state(pipeline_.get(), GST_STATE_PAUSED);
    check();  // what failed is on the bus, which says why
    return state == GST_STATE_CHANGE_NO_PREROLL;
}

void Pipeline::play() {
    gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING);
    check();
}

void Pipeline::check() { wait(0, kProblems); }

void Pipeline::drain() {
    if (!wait(kDrain, kProblems | GST_MESSAGE_EOS)) {
        throw Error(Blame::kMachine,
                    said("has not ended within " + std::to_string(kDrain / GST_SECOND) + " s"),
                    kTry);
    }
}

std::string Pipeline::said(const std::string& what) const {
    return option_ + " \"" + description_ + "\" " + what;
}

bool Pipeline::wait(GstClockTime nanoseconds, int types) {
    while (true) {
        const Owned<GstMessage> message(gst_bus_timed_pop_filtered(
            bus_.get(), nanoseconds, static_cast<GstMessageType>(types)));
        if (message == nullptr) return false;
        if (GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_EOS) return true;
        const bool fatal = GST_MESSAGE_TYPE(message.get()) == GST_MESSAGE_ERROR;
        GError* found = nullptr;
        (fatal ? gst_message_parse_error : gst_message_parse_warning)(message.get(), &found,
                                                                      nullptr);
        const Owned<GError> error(found);
        const Owned<char> source(gst_object_get_name(GST_MESSAGE_SRC(message.get())));
        const std::string problem =
            said(std::string("says, in ") + source.get() + ": " + error->message);
        if (fatal) {
            throw Error(is_of_the_machine(*error) ? Blame::kMachine : Blame::kInput, problem, kTry);
        }
        std::cerr << problem << '\n';
    }
}

}  // namespace camera
