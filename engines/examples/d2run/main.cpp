// d2run: asks a bundle about pictures. Exit codes as d2export's: 0 ok, 2 bad input, 3 a misfit.
#include <exception>
#include <iostream>

#include "arguments.h"
#include "output.h"

namespace {

using namespace d2export::runtime;

std::unique_ptr<Backend> backend_of(const d2run::Arguments& arguments) {
    if (arguments.null_backend) {
        return null_backend();
    }
    return arguments.engines ? tensorrt(arguments.tensorrt) : onnx_runtime(arguments.onnx_runtime);
}

void run(d2run::Arguments arguments) {
    const Bundle bundle(arguments.bundle,
                        arguments.manifest_only ? Verify::kManifestOnly : Verify::kEverything);
    const Model model(bundle, backend_of(arguments));
    std::vector<Image> images;
    for (const std::string& path : arguments.images) {
        images.push_back(read_image(path));
    }
    for (int before = 1; before < arguments.repeat; ++before) {
        model.answer(images, arguments.request);
    }
    if (!arguments.json) {
        arguments.request.on_text = [](std::string_view piece) {
            std::cout << piece << std::flush;
            return true;
        };
    }
    arguments.request.on_warning = [](const std::string& problem) {
        std::cerr << "warning: " << problem << '\n';
    };
    const Answer answer = model.answer(images, arguments.request);
    if (arguments.json) {
        d2run::print_json(std::cout, answer);
    } else {
        std::cout << '\n';
        d2run::print_summary(std::cerr, answer);
    }
}

}  // namespace

int main(int count, char** arguments) {
    try {
        d2run::Arguments found = d2run::read(count, arguments);
        if (found.help) {
            std::cout << d2run::kUsage;
            return 0;
        }
        run(std::move(found));
        return 0;
    } catch (const Error& error) {
        std::cerr << error.what() << "\n  " << error.hint() << '\n';
        return static_cast<int>(error.blame());
    } catch (const std::exception& error) {
        std::cerr << "d2run: " << error.what() << '\n';
        return 4;
    }
}
