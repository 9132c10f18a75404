// camera BUNDLE FOLDER QUESTION [--follow] [libonnxruntime.so]: the same question about each frame
// in a folder, in the order of their names, and what the answer cost. With --follow it waits for
// more; whoever writes them should do so under another name and rename, or half a frame is read.
//
// Frames come from a folder only: there is no GStreamer source, because it could not be tested.
// Frames that are in memory already fill an Image instead of what read_image() gives.
#include <d2export/runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <set>
#include <thread>

namespace {

using namespace d2export::runtime;
using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds(50);

struct Arguments {
    std::string bundle, folder, library;
    Request request;
    bool follow = false;
};

Arguments read(int count, char** arguments) {
    std::vector<std::string> words(arguments + 1, arguments + count);
    Arguments found;
    const auto flag = std::find(words.begin(), words.end(), "--follow");
    if (flag != words.end()) {
        found.follow = true;
        words.erase(flag);
    }
    if (words.size() < 3 || words.size() > 4) {
        throw bad_input("BUNDLE, FOLDER and QUESTION are expected",
                        "usage: camera BUNDLE FOLDER QUESTION [--follow] [libonnxruntime.so]");
    }
    found.bundle = words[0];
    found.folder = words[1];
    found.request.prompt = words[2];
    found.library = words.size() > 3 ? words[3] : "";
    return found;
}

// The pictures in the folder that were not there before, by name.
std::vector<std::filesystem::path> new_frames(const std::string& folder,
                                              std::set<std::filesystem::path>& seen) {
    static const std::set<std::string> kPictures{".jpg", ".jpeg", ".png"};
    std::error_code problem;
    std::filesystem::directory_iterator entries(folder, problem);
    if (problem) {
        throw bad_input(folder + " cannot be read: " + problem.message(),
                        "Pass a folder of JPEG or PNG frames.");
    }
    std::vector<std::filesystem::path> found;
    for (const auto& entry : entries) {
        const auto& path = entry.path();
        if (kPictures.count(path.extension().string()) > 0 && seen.insert(path).second) {
            found.push_back(path);
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

void ask(const Model& model, const std::filesystem::path& frame, const Request& request) {
    const auto start = Clock::now();
    const Image image = read_image(frame.string());
    const std::chrono::duration<double> reading = Clock::now() - start;
    const Answer answer = model.answer({image}, request);

    const Timings& seconds = answer.timings;
    const auto tokens = answer.tiles[0] * model.bundle().manifest().vision.tokens_per_tile();
    // The first token is prefill's.
    const double decoded = static_cast<double>(answer.tokens.size() - 1) / seconds.decode;
    char costs[200];
    std::snprintf(costs, sizeof costs,
                  "read %.1f ms, preprocess %.1f ms, vision %.1f ms, prefill %.1f ms, decode %.0f "
                  "tokens/s, kept %zu of %lld visual tokens",
                  reading.count() * 1e3, seconds.preprocessing * 1e3, seconds.vision * 1e3,
                  seconds.prefill * 1e3, decoded, answer.kept[0].size(),
                  static_cast<long long>(tokens));
    std::cout << frame.filename().string() << ": " << costs << "\n  " << answer.text << std::endl;
}

int complain(const Error& error) {
    std::cerr << error.what() << "\n  " << error.hint() << '\n';
    return static_cast<int>(error.blame());
}

}  // namespace

int main(int count, char** arguments) {
    try {
        const Arguments found = read(count, arguments);
        OnnxRuntimeOptions options;
        options.library = found.library;
        const Model model(Bundle(found.bundle), onnx_runtime(options));

        std::set<std::filesystem::path> seen;
        int code = 0;
        while (true) {
            for (const auto& frame : new_frames(found.folder, seen)) {
                try {
                    ask(model, frame, found.request);
                } catch (const Error& error) {  // one bad frame does not end the film
                    code = complain(error);
                }
            }
            if (!found.follow) return code;
            std::this_thread::sleep_for(kPoll);
        }
    } catch (const Error& error) {
        return complain(error);
    }
}
