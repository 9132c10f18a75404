// Whoever writes frames into a folder that is followed should do so under another name and rename,
// or half a frame is read.
#include <d2export/error.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <thread>
#include <vector>

#include "frames.h"

namespace camera {
namespace {

namespace fs = std::filesystem;

constexpr auto kPoll = std::chrono::milliseconds(50);

class FramesOfFolder : public Frames {
 public:
    FramesOfFolder(std::string folder, bool follow)
        : folder_(std::move(folder)), follow_(follow), waiting_(look()) {}

    std::optional<Frame> next() override {
        while (waiting_.empty()) {
            if (!follow_) return std::nullopt;
            std::this_thread::sleep_for(kPoll);
            waiting_ = look();
        }
        const fs::path path = waiting_.back();
        waiting_.pop_back();
        return Frame{path.filename().string(),
                     [path] { return d2export::runtime::read_image(path.string()); }};
    }

 private:
    // The pictures that were not there before, the first by name last.
    std::vector<fs::path> look() {
        static const std::set<std::string> kPictures{".jpg", ".jpeg", ".png"};
        std::error_code problem;
        fs::directory_iterator entries(folder_, problem);
        if (problem) {
            throw d2export::runtime::bad_input(folder_ + " cannot be read: " + problem.message(),
                                               "Pass a folder of JPEG or PNG frames.");
        }
        std::vector<fs::path> found;
        for (const auto& entry : entries) {
            const auto& path = entry.path();
            if (kPictures.count(path.extension().string()) > 0 && seen_.insert(path).second) {
                found.push_back(path);
            }
        }
        std::sort(found.rbegin(), found.rend());
        return found;
    }

    std::string folder_;
    bool follow_;
    std::set<fs::path> seen_;
    std::vector<fs::path> waiting_;
};

}  // namespace

std::unique_ptr<Frames> frames_of_folder(const std::string& folder, bool follow) {
    return std::make_unique<FramesOfFolder>(folder, follow);
}

}  // namespace camera
