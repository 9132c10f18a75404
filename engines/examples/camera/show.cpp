#include "show.h"

#include <d2export/error.h>

namespace camera {
namespace {

std::filesystem::path png(const std::string& frame) {
    return std::filesystem::path(frame).extension() == ".png" ? frame : frame + ".png";
}

}  // namespace

Show::Show(std::filesystem::path folder, const std::string& pipeline) : folder_(std::move(folder)) {
    if (!folder_.empty()) {
        need_overlay();
        std::error_code problem;
        std::filesystem::create_directories(folder_, problem);
        if (problem) {
            throw d2export::runtime::bad_input(
                "--show " + folder_.string() + " cannot be made: " + problem.message(),
                "Pass a folder that is there, or can be.");
        }
    }
    if (!pipeline.empty()) {
        need_overlay();
        display_ = display_of_gstreamer(pipeline);
    }
}

void Show::add(const std::string& name, const d2export::runtime::Image& image,
               const std::string& answer, const std::string& costs) {
    if (folder_.empty() && display_ == nullptr) return;
    Picture picture = draw(image, answer, costs);
    if (!folder_.empty()) write_png(picture, (folder_ / png(name)).string());
    if (display_ != nullptr) display_->show(picture);
}

void Show::end() {
    if (display_ != nullptr) display_->end();
}

}  // namespace camera
