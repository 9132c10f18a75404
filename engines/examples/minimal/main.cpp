// minimal BUNDLE IMAGE QUESTION [libonnxruntime.so]: the answer, piece by piece.
#include <d2export/runtime.h>

#include <iostream>

int main(int count, char** arguments) {
    using namespace d2export::runtime;
    if (count < 4) {
        std::cerr << "usage: minimal BUNDLE IMAGE QUESTION [libonnxruntime.so]\n";
        return 2;
    }
    try {
        OnnxRuntimeOptions options;
        options.library = count > 4 ? arguments[4] : "";
        const Model model(Bundle(arguments[1]), onnx_runtime(options));

        Request request;
        request.prompt = arguments[3];
        request.on_text = [](std::string_view piece) {
            std::cout << piece << std::flush;
            return true;
        };
        model.answer({read_image(arguments[2])}, request);
        std::cout << '\n';
        return 0;
    } catch (const Error& error) {
        std::cerr << error.what() << "\n  " << error.hint() << '\n';
        return static_cast<int>(error.blame());
    }
}
