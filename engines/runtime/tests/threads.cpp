// threads BUNDLE BUNDLE QUESTIONS [libonnxruntime.so]: four threads ask two models at once, each
// twice as many as two; without a library, of a backend that computes nothing. Every answer has to
// be the one that a thread by itself gets.
#include <d2export/runtime.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

using namespace d2export::runtime;

constexpr std::size_t kThreads = 4;

Image picture(std::size_t which) {
    Image image{std::vector<std::uint8_t>(64 * 64 * 3), 64, 64};
    for (std::size_t i = 0; i < image.rgb.size(); ++i) {
        image.rgb[i] = static_cast<std::uint8_t>(i * (which + 3) / 7);
    }
    return image;
}

Answer ask(const Model& model, std::size_t which) {
    Request request;
    request.prompt = "What is this?";
    request.max_new_tokens = 6;
    return model.answer({picture(which)}, request);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) {
        return 2;
    }
    try {
        const int questions = std::atoi(arguments[3]);
        OnnxRuntimeOptions options;
        options.threads = 1;
        options.library = count > 4 ? arguments[4] : "";
        const std::shared_ptr<const Backend> backend =
            count > 4 ? onnx_runtime(options) : null_backend();
        const std::array<Model, 2> models{Model(Bundle(arguments[1]), backend),
                                          Model(Bundle(arguments[2]), backend)};
        std::array<Answer, kThreads> alone;
        for (std::size_t i = 0; i < kThreads; ++i) {
            alone[i] = ask(models[i % 2], i);
        }
        std::array<int, kThreads> equal{};
        std::array<std::thread, kThreads> threads;
        for (std::size_t i = 0; i < kThreads; ++i) {
            threads[i] = std::thread([&, i] {
                for (int question = 0; question < questions; ++question) {
                    const Answer found = ask(models[i % 2], i);
                    equal[i] += found.tokens == alone[i].tokens && found.kept == alone[i].kept &&
                                found.text == alone[i].text;
                }
            });
        }
        int all = 0;
        for (std::size_t i = 0; i < kThreads; ++i) {
            threads[i].join();
            all += equal[i];
        }
        std::printf("%d of %d answers equal\n", all, questions * static_cast<int>(kThreads));
        return all == questions * static_cast<int>(kThreads) ? 0 : 1;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n  %s\n", error.what(), error.hint());
        return 3;
    }
}
