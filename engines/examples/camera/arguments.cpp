#include "arguments.h"

#include <filesystem>
#include <map>
#include <vector>

namespace camera {
namespace {

using d2export::runtime::bad_input;

const char* const kUsage =
    "usage: camera BUNDLE FOLDER QUESTION [--follow] [options] [libonnxruntime.so]\n"
    "     | camera BUNDLE --gstreamer PIPELINE QUESTION [options] [libonnxruntime.so]\n"
    "    --follow              wait for more frames in FOLDER\n"
    "    --gstreamer PIPELINE  frames of a camera, such as \"v4l2src\"; the newest is answered\n"
    "    --show FOLDER         write each frame as a PNG, the answer and what it cost drawn over\n"
    "    --display PIPELINE    send the same to GStreamer, such as \"autovideosink\"\n"
    "    --tensorrt            run the bundle's engines instead of its ONNX graphs\n"
    "    --plugin FILE         libd2export_plugin.so, for engines that were built with it";

const std::map<std::string, std::string Arguments::*> kOptions{
    {"--gstreamer", &Arguments::pipeline},
    {"--show", &Arguments::show},
    {"--display", &Arguments::display},
    {"--plugin", &Arguments::plugin},
};

}  // namespace

Arguments read(int count, char** arguments) {
    Arguments found;
    std::vector<std::string> words;
    for (int i = 1; i < count; ++i) {
        const std::string word = arguments[i];
        if (word == "--follow") {
            found.follow = true;
        } else if (word == "--tensorrt") {
            found.engines = true;
        } else if (const auto option = kOptions.find(word); option != kOptions.end()) {
            if (i + 1 == count || *arguments[i + 1] == '\0') {
                throw bad_input(word + " has no value", kUsage);
            }
            found.*option->second = arguments[++i];
        } else if (word.rfind("--", 0) == 0) {
            throw bad_input("there is no option '" + word + "'", kUsage);
        } else {
            words.push_back(word);
        }
    }
    const bool folder = found.pipeline.empty();
    if (!folder && found.follow) {
        throw bad_input("--follow is for a FOLDER, expected without --gstreamer", kUsage);
    }
    const std::size_t expected = folder ? 3 : 2;
    if (words.size() < expected || words.size() > expected + 1) {
        throw bad_input(folder ? "BUNDLE, FOLDER and QUESTION are expected"
                               : "BUNDLE and QUESTION are expected beside --gstreamer",
                        kUsage);
    }
    found.bundle = words[0];
    found.folder = folder ? words[1] : "";
    found.request.prompt = words[expected - 1];
    std::error_code none;  // one of them need not be there yet
    if (folder && std::filesystem::equivalent(found.folder, found.show, none)) {
        throw bad_input(
            "--show is FOLDER itself, whose frames it would overwrite, expected another", kUsage);
    }
    found.library = words.size() > expected ? words[expected] : "";
    return found;
}

}  // namespace camera
