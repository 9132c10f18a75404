#include <d2export/d2export_c.h>
#include <d2export/runtime.h>

#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace runtime = d2export::runtime;

struct d2export_model {
    runtime::Model model;
};
struct d2export_image {
    std::variant<runtime::Image, runtime::Tiles> image;
};
struct d2export_answer {
    runtime::Answer answer;
};

namespace {

thread_local std::string problem, hint;

d2export_status failed(d2export_status status, const char* what, const char* next) noexcept {
    try {
        problem = what;
        hint = next;
    } catch (...) {
        problem.clear();  // no memory to say more
        hint.clear();
    }
    return status;
}

// Runs what may throw.
template <typename Call>
d2export_status guarded(Call call) noexcept {
    try {
        call();
        return D2EXPORT_OK;
    } catch (const runtime::Error& error) {
        return failed(static_cast<d2export_status>(error.blame()), error.what(), error.hint());
    } catch (const std::bad_alloc&) {
        return failed(D2EXPORT_INTERNAL, "there is not enough memory", "Free some.");
    } catch (const std::exception& error) {
        return failed(D2EXPORT_INTERNAL, error.what(), "This is a bug of d2export: report it.");
    } catch (...) {
        return failed(D2EXPORT_INTERNAL, "an unknown exception", "This is a bug: report it.");
    }
}

template <typename Pointer>
Pointer needed(Pointer pointer, const char* name) {
    if (pointer == nullptr) {
        throw runtime::bad_input(std::string(name) + " is NULL", "Pass one.");
    }
    return pointer;
}

std::string text_or_nothing(const char* text) { return text == nullptr ? "" : text; }

// Memory that C functions give.
class CallersMemory final : public runtime::DeviceMemory {
 public:
    explicit CallersMemory(const d2export_tensorrt& engines)
        : allocate_(engines.allocate), release_(engines.release), user_(engines.user) {}

    void* allocate(std::size_t bytes) noexcept override { return allocate_(user_, bytes); }
    void release(void* memory) noexcept override { release_(user_, memory); }

 private:
    void* (*allocate_)(void*, std::size_t);
    void (*release_)(void*, void*);
    void* user_;
};

std::unique_ptr<runtime::Backend> backend_of(const d2export_options& given) {
    if (given.tensorrt == nullptr) {
        runtime::OnnxRuntimeOptions settings;
        settings.library = text_or_nothing(given.onnx_runtime);
        settings.custom_ops = text_or_nothing(given.custom_ops);
        settings.threads = given.threads;
        return runtime::onnx_runtime(settings);
    }
    const d2export_tensorrt& engines = *given.tensorrt;
    runtime::TensorRtOptions settings;
    settings.library = text_or_nothing(engines.library);
    settings.plugin = text_or_nothing(engines.plugin);
    settings.device = engines.device;
    settings.cuda_graphs = engines.cuda_graphs;
    settings.stream = engines.stream;
    settings.host_code = engines.host_code != 0;
    if ((engines.allocate == nullptr) != (engines.release == nullptr)) {
        throw runtime::bad_input("of allocate and release one is NULL", "Pass both or neither.");
    }
    if (engines.allocate != nullptr) {
        settings.memory = std::make_shared<CallersMemory>(engines);
    }
    return runtime::tensorrt(settings);
}

runtime::Tiles tiles_of(const d2export_image& picture, const runtime::VisionSpec& vision) {
    const auto* tiles = std::get_if<runtime::Tiles>(&picture.image);
    return tiles != nullptr ? *tiles : prepare(std::get<runtime::Image>(picture.image), vision);
}

std::unique_ptr<d2export_image> picture_of(std::variant<runtime::Image, runtime::Tiles> image) {
    return std::make_unique<d2export_image>(d2export_image{std::move(image)});
}

runtime::Request request_of(const char* prompt, const d2export_request& given) {
    runtime::Request request;
    request.prompt = prompt;
    if (given.max_new_tokens != 0) {
        request.max_new_tokens = given.max_new_tokens;
    }
    if (given.system != nullptr) {
        request.system = given.system;
    }
    if (given.temperature != 0) {
        request.sampling = {given.temperature, given.top_k, given.top_p == 0 ? 1 : given.top_p,
                            given.seed};
    }
    if (given.on_text != nullptr) {
        const auto on_text = given.on_text;
        request.on_text = [on_text, user = given.user](std::string_view piece) {
            return on_text(user, piece.data(), piece.size()) != 0;
        };
    }
    if (given.on_warning != nullptr) {
        const auto on_warning = given.on_warning;
        request.on_warning = [on_warning, user = given.user](const std::string& unusual) {
            on_warning(user, unusual.c_str());
        };
    }
    return request;
}

}  // namespace

const char* d2export_version(void) { return D2EXPORT_VERSION; }
const char* d2export_problem(void) { return problem.c_str(); }
const char* d2export_hint(void) { return hint.c_str(); }

d2export_status d2export_model_open(const char* bundle, const d2export_options* options,
                                    d2export_model** model) {
    return guarded([&] {
        needed(model, "model");
        const d2export_options given = options == nullptr ? d2export_options{} : *options;
        const runtime::Bundle opened(needed(bundle, "bundle"), given.manifest_only != 0
                                                                   ? runtime::Verify::kManifestOnly
                                                                   : runtime::Verify::kEverything);
        *model = std::make_unique<d2export_model>(
                     d2export_model{runtime::Model(opened, backend_of(given))})
                     .release();
    });
}

void d2export_model_free(d2export_model* model) { std::default_delete<d2export_model>()(model); }

d2export_status d2export_image_read(const char* path, d2export_image** image) {
    return guarded([&] {
        needed(image, "image");
        *image = picture_of(runtime::read_image(needed(path, "path"))).release();
    });
}

d2export_status d2export_image_decode(const uint8_t* bytes, size_t size, d2export_image** image) {
    return guarded([&] {
        needed(image, "image");
        *image = picture_of(runtime::decode_image(needed(bytes, "bytes"), size)).release();
    });
}

d2export_status d2export_image_copy(const uint8_t* rgb, int32_t width, int32_t height,
                                    d2export_image** image) {
    return guarded([&] {
        needed(rgb, "rgb");
        needed(image, "image");
        if (width < 1 || height < 1) {
            throw runtime::bad_input("the picture is " + std::to_string(width) + "x" +
                                         std::to_string(height) + " pixels, expected at least 1x1",
                                     "Pass its width and its height.");
        }
        const std::size_t size =
            std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
        *image =
            picture_of(runtime::Image{std::vector<std::uint8_t>(rgb, rgb + size), width, height})
                .release();
    });
}

d2export_status d2export_image_on_device(const d2export_model* model, const float* pixels,
                                         int32_t columns, int32_t rows, d2export_image** image) {
    return guarded([&] {
        needed(image, "image");
        const runtime::VisionSpec& vision =
            needed(model, "model")->model.bundle().manifest().vision;
        *image = picture_of(runtime::tiles_on_device(pixels, columns, rows, vision)).release();
    });
}

void d2export_image_free(d2export_image* image) { std::default_delete<d2export_image>()(image); }

d2export_status d2export_ask(const d2export_model* model, const d2export_image* const* images,
                             size_t count, const char* prompt, const d2export_request* request,
                             d2export_answer** answer) {
    return guarded([&] {
        needed(model, "model");
        needed(answer, "answer");
        needed(prompt, "prompt");
        const runtime::VisionSpec& vision = model->model.bundle().manifest().vision;
        const auto start = std::chrono::steady_clock::now();
        std::vector<runtime::Tiles> pictures;
        for (size_t i = 0; i < count; ++i) {
            pictures.push_back(tiles_of(*needed(needed(images, "images")[i], "an image"), vision));
        }
        const d2export_request given = request == nullptr ? d2export_request{} : *request;
        const std::chrono::duration<double> cutting = std::chrono::steady_clock::now() - start;
        auto found = std::make_unique<d2export_answer>(
            d2export_answer{model->model.answer(pictures, request_of(prompt, given))});
        found->answer.timings.preprocessing += cutting.count();
        *answer = found.release();
    });
}

void d2export_answer_free(d2export_answer* answer) {
    std::default_delete<d2export_answer>()(answer);
}

const char* d2export_answer_text(const d2export_answer* answer) {
    return answer->answer.text.c_str();
}

d2export_timings d2export_answer_timings(const d2export_answer* answer) {
    const runtime::Timings& timings = answer->answer.timings;
    return {timings.preprocessing, timings.vision, timings.prefill, timings.decode};
}

d2export_finish d2export_answer_finish(const d2export_answer* answer) {
    return static_cast<d2export_finish>(answer->answer.finish);
}

const int64_t* d2export_answer_tokens(const d2export_answer* answer, size_t* count) {
    *count = answer->answer.tokens.size();
    return answer->answer.tokens.data();
}

const int32_t* d2export_answer_kept(const d2export_answer* answer, size_t image, size_t* count) {
    const auto& kept = answer->answer.kept;
    *count = image < kept.size() ? kept[image].size() : 0;
    return image < kept.size() ? kept[image].data() : nullptr;
}
