// Where answered frames are shown: a folder, a GStreamer pipeline, both, or nowhere.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "display.h"
#include "overlay.h"

namespace camera {

class Show {
 public:
    // An empty folder or pipeline is none. Throws an Error where one cannot be had.
    Show(std::filesystem::path folder, const std::string& pipeline);

    void add(const std::string& name, const d2export::runtime::Image& image,
             const std::string& answer, const std::string& costs);
    void end();

 private:
    std::filesystem::path folder_;
    std::unique_ptr<Display> display_;
};

}  // namespace camera
