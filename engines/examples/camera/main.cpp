// camera: the same question about each frame of a camera or a folder, and what the answer cost; see
// arguments.cpp. Exit codes as d2export's: 0 ok, 2 bad input, 3 a misfit.
#include <d2export/runtime.h>

#include <chrono>
#include <cstdio>
#include <iostream>

#include "arguments.h"
#include "frames.h"
#include "show.h"

namespace {

using namespace d2export::runtime;
using Clock = std::chrono::steady_clock;

constexpr int kGraphs = 256;  // decode steps: answers about frame after frame have like lengths

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string costs(const Answer& answer, double reading, double since_last, std::int64_t tokens) {
    const Timings& seconds = answer.timings;
    // The first token is prefill's.
    const double decoded = static_cast<double>(answer.tokens.size() - 1) / seconds.decode;
    char text[240];
    std::snprintf(text, sizeof text,
                  "read %.1f ms, preprocess %.1f ms, vision %.1f ms, prefill %.1f ms, decode %.0f "
                  "tokens/s, kept %zu of %lld visual tokens, %.1f frames/s",
                  reading * 1e3, seconds.preprocessing * 1e3, seconds.vision * 1e3,
                  seconds.prefill * 1e3, answer.tokens.size() > 1 ? decoded : 0.0,
                  answer.kept[0].size(), static_cast<long long>(tokens), 1 / since_last);
    return text;
}

std::unique_ptr<Backend> backend_of(const camera::Arguments& arguments) {
    if (arguments.engines) {
        TensorRtOptions options;
        options.plugin = arguments.plugin;
        options.cuda_graphs = kGraphs;
        return tensorrt(options);
    }
    OnnxRuntimeOptions options;
    options.library = arguments.library;
    return onnx_runtime(options);
}

int complain(const Error& error) {
    std::cerr << error.what() << "\n  " << error.hint() << '\n';
    return static_cast<int>(error.blame());
}

int film(const Model& model, camera::Frames& frames, const Request& request, camera::Show& show) {
    const std::int64_t per_tile = model.bundle().manifest().vision.tokens_per_tile();
    int code = 0;
    auto last = Clock::now();
    while (const auto frame = frames.next()) {
        Image image;
        Answer answer;
        double reading = 0;
        try {
            const auto start = Clock::now();
            image = frame->read();
            reading = seconds_since(start);
            answer = model.answer({image}, request);
        } catch (const Error& error) {  // one bad frame does not end the film
            code = complain(error);
            continue;
        }
        const std::string cost =
            costs(answer, reading, seconds_since(last), answer.tiles[0] * per_tile);
        last = Clock::now();
        std::cout << frame->name << ": " << cost << "\n  " << answer.text << std::endl;
        show.add(frame->name, image, answer.text, cost);
    }
    show.end();
    return code;
}

}  // namespace

int main(int count, char** arguments) {
    try {
        const camera::Arguments found = camera::read(count, arguments);
        const Model model(Bundle(found.bundle), backend_of(found));
        camera::Show show(found.show, found.display);
        const auto frames = found.pipeline.empty()
                                ? camera::frames_of_folder(found.folder, found.follow)
                                : camera::frames_of_gstreamer(found.pipeline);
        return film(model, *frames, found.request, show);
    } catch (const Error& error) {
        return complain(error);
    }
}
