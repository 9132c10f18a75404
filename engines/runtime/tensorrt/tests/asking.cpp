// asking BUNDLE PLUGIN [option ...] < QUESTIONS: asks the engines of a bundle, one model for all
// questions, by way of the stand-ins. A question is a line: a picture, a tab, the prompt. Prints a
// line of JSON for each: its tokens and the visual tokens that were kept. Options:
//
//   graphs=N     decode steps that are kept as CUDA graphs
//   stream       everything on one stream of this program's
//   on-device    pictures are cut and normalised by this program, and lie on the GPU
//   memory       memory of the GPU comes from this program
//   c            through the C interface
//   threads=N    the questions are asked N times, by N threads at once, and answered alike
//   see          visual tokens alone: which were kept, and a digest of their numbers
//   tokens=N     longest answer
//
// The last line says what the GPU did: kernels that were launched, graphs, allocations.
#include <d2export/d2export_c.h>
#include <d2export/runtime.h>

#include <atomic>
#include <cstdio>
#include <iostream>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <thread>

#include "gpu.h"

namespace {

using namespace d2export::runtime;

struct Question {
    std::string picture, prompt;
};

using Options = std::map<std::string, int>;

int value_of(const Options& options, const std::string& name, int otherwise) {
    const auto found = options.find(name);
    return found == options.end() ? otherwise : found->second;
}

void need(CUresult result) {
    if (result != CUDA_SUCCESS) throw std::runtime_error("CUDA: " + std::to_string(result));
}

// This program's own context and stream, and pictures on the GPU.
class Device {
 public:
    Device() {
        need(cuInit(0));
        need(cuDeviceGet(&device_, 0));
        need(cuDevicePrimaryCtxRetain(&context_, device_));
        need(cuCtxPushCurrent(context_));
        need(cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING));
    }
    ~Device() {
        for (const CUdeviceptr memory : memory_) cuMemFree(memory);
        cuStreamDestroy(stream_);
        cuCtxPopCurrent(&context_);
        cuDevicePrimaryCtxRelease(device_);
    }
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    CUstream stream() const { return stream_; }

    const float* put(const std::vector<float>& numbers) {
        const std::size_t bytes = numbers.size() * sizeof(float);
        CUdeviceptr memory = 0;
        need(cuMemAlloc(&memory, bytes));
        memory_.push_back(memory);
        need(cuMemcpyHtoDAsync(memory, numbers.data(), bytes, stream_));
        need(cuStreamSynchronize(stream_));
        return reinterpret_cast<const float*>(memory);
    }

 private:
    CUdevice device_ = 0;
    CUcontext context_ = nullptr;
    CUstream stream_ = nullptr;
    std::vector<CUdeviceptr> memory_;
};

// Memory that this program gives; it has to come back.
class Own final : public DeviceMemory {
 public:
    void* allocate(std::size_t bytes) noexcept override {
        CUdeviceptr memory = 0;
        if (cuMemAlloc(&memory, bytes) != CUDA_SUCCESS) return nullptr;
        ++given;
        return reinterpret_cast<void*>(memory);
    }
    void release(void* memory) noexcept override {
        cuMemFree(reinterpret_cast<CUdeviceptr>(memory));
        --given;
    }
    std::atomic<int> given{0};
};

template <typename Number>
std::string listed(const Number* numbers, std::size_t count) {
    std::ostringstream out;
    for (std::size_t i = 0; i < count; ++i) out << (i > 0 ? ", " : "") << numbers[i];
    return "[" + out.str() + "]";
}

template <typename Numbers>
std::string listed(const Numbers& numbers) {
    return listed(numbers.data(), numbers.size());
}

std::string shown(const Answer& answer) {
    std::string kept;
    for (const auto& indices : answer.kept) kept += (kept.empty() ? "" : ", ") + listed(indices);
    return "{\"tokens\": " + listed(answer.tokens) + ", \"kept\": [" + kept + "]}";
}

// Where the tiles of a picture lie beside each other: told from its grid.
std::pair<int, int> columns_and_rows(const Tiles& tiles, const VisionSpec& vision) {
    float right = 0, bottom = 0;
    for (std::size_t i = 0; i < tiles.grid.size(); i += 2) {
        right = std::max(right, tiles.grid[i]);
        bottom = std::max(bottom, tiles.grid[i + 1]);
    }
    const auto side = static_cast<float>(vision.tokens_per_side());
    return {static_cast<int>(right / side) + 1, static_cast<int>(bottom / side) + 1};
}

Tiles cut(const Question& question, const VisionSpec& vision, Device* device) {
    const Tiles tiles = prepare(read_image(question.picture), vision);
    if (device == nullptr) return tiles;
    const auto [columns, rows] = columns_and_rows(tiles, vision);
    return tiles_on_device(device->put(tiles.pixels), columns, rows, vision);
}

std::string seen(const Model& model, const Tiles& tiles) {
    const Seen found = model.see(tiles);
    const Matrix& embeds = found.image_embeds;
    std::vector<unsigned char> numbers(
        static_cast<std::size_t>(embeds.rows * embeds.columns * item_bytes(embeds.type)));
    model.to_host(embeds, numbers.data());
    std::ostringstream hex;
    for (const unsigned char byte : numbers) hex << std::hex << int{byte} << ' ';
    return "{\"kept\": " + listed(found.kept) + ", \"rows\": " + std::to_string(embeds.rows) +
           ", \"bytes\": \"" + hex.str() + "\"}";
}

std::string answered(const Model& model, const Question& question, const Options& options,
                     Device* device) {
    const Tiles tiles = cut(question, model.bundle().manifest().vision, device);
    if (options.count("see") > 0) return seen(model, tiles);
    Request request;
    request.prompt = question.prompt;
    request.max_new_tokens = value_of(options, "tokens", 16);
    return shown(model.answer(std::vector<Tiles>{tiles}, request));
}

// The same through C.
void c(d2export_status status) {
    if (status != D2EXPORT_OK) {
        throw Error(static_cast<Blame>(status), d2export_problem(), d2export_hint());
    }
}

void ask_in_c(const char* bundle, const char* plugin, const std::vector<Question>& questions,
              const Options& options, Device* device, Own* own) {
    d2export_tensorrt engines{};
    engines.plugin = plugin;
    engines.cuda_graphs = value_of(options, "graphs", 0);
    engines.stream = options.count("stream") > 0 ? device->stream() : nullptr;
    if (own != nullptr) {
        engines.allocate = [](void* user, std::size_t bytes) {
            return static_cast<Own*>(user)->allocate(bytes);
        };
        engines.release = [](void* user, void* memory) {
            static_cast<Own*>(user)->release(memory);
        };
        engines.user = own;
    }
    d2export_options given{};
    given.tensorrt = &engines;
    d2export_model* model = nullptr;
    c(d2export_model_open(bundle, &given, &model));
    const VisionSpec vision = Bundle(bundle).manifest().vision;
    for (const Question& question : questions) {
        d2export_image* image = nullptr;
        if (options.count("on-device") > 0) {
            const Tiles tiles = prepare(read_image(question.picture), vision);
            const auto [columns, rows] = columns_and_rows(tiles, vision);
            c(d2export_image_on_device(model, device->put(tiles.pixels), columns, rows, &image));
        } else {
            c(d2export_image_read(question.picture.c_str(), &image));
        }
        d2export_request request{};
        request.max_new_tokens = value_of(options, "tokens", 16);
        d2export_answer* answer = nullptr;
        c(d2export_ask(model, &image, 1, question.prompt.c_str(), &request, &answer));
        std::size_t tokens = 0, kept = 0;
        const std::int64_t* const ids = d2export_answer_tokens(answer, &tokens);
        const std::int32_t* const indices = d2export_answer_kept(answer, 0, &kept);
        std::cout << "{\"tokens\": " << listed(ids, tokens) << ", \"kept\": ["
                  << listed(indices, kept) << "]}\n";
        d2export_answer_free(answer);
        d2export_image_free(image);
    }
    d2export_model_free(model);
}

// Each thread asks all questions; all answers have to be the same.
std::vector<std::string> asked(const Model& model, const std::vector<Question>& questions,
                               const Options& options, Device* device) {
    const auto all = [&] {
        std::vector<std::string> answers;
        for (const Question& question : questions) {
            answers.push_back(answered(model, question, options, device));
        }
        return answers;
    };
    const auto count = static_cast<std::size_t>(value_of(options, "threads", 1));
    if (count == 1) return all();
    std::vector<std::vector<std::string>> answers(count);
    std::vector<std::string> problems(count);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
            try {
                answers[i] = all();
            } catch (const std::exception& error) {
                problems[i] = error.what();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < count; ++i) {
        if (!problems[i].empty()) throw std::runtime_error(problems[i]);
        if (answers[i] != answers[0]) throw std::runtime_error("threads are answered otherwise");
    }
    return answers[0];
}

void run(const char* bundle, const char* plugin, const Options& options) {
    std::vector<Question> questions;
    for (std::string line; std::getline(std::cin, line);) {
        const std::size_t tab = line.find('\t');
        questions.push_back({line.substr(0, tab), line.substr(tab + 1)});
    }
    const bool needs_device = options.count("stream") + options.count("on-device") > 0;
    const auto device = needs_device ? std::make_unique<Device>() : nullptr;
    Device* const pictures = options.count("on-device") > 0 ? device.get() : nullptr;
    const auto own = options.count("memory") > 0 ? std::make_shared<Own>() : nullptr;
    if (options.count("c") > 0) {
        ask_in_c(bundle, plugin, questions, options, device.get(), own.get());
    } else {
        TensorRtOptions settings;
        settings.plugin = plugin;
        settings.cuda_graphs = value_of(options, "graphs", 0);
        settings.stream = options.count("stream") > 0 ? device->stream() : nullptr;
        settings.memory = own;
        const Model model(Bundle(bundle), tensorrt(settings));
        for (const std::string& answer : asked(model, questions, options, pictures)) {
            std::cout << answer << '\n';
        }
        if (own != nullptr && own->given == 0) throw std::runtime_error("nobody asked for memory");
    }
    if (own != nullptr && own->given != 0) throw std::runtime_error("memory was not given back");
    std::cout << "{\"launches\": " << stand_in_count("launches")
              << ", \"graph launches\": " << stand_in_count("graph launches")
              << ", \"allocations\": " << stand_in_count("allocations") << "}\n";
}

}  // namespace

int main(int count, char** arguments) {
    Options options;
    for (int i = 3; i < count; ++i) {
        const std::string word = arguments[i];
        const std::size_t equals = word.find('=');
        options[word.substr(0, equals)] =
            equals == std::string::npos ? 1 : std::stoi(word.substr(equals + 1));
    }
    try {
        run(arguments[1], arguments[2], options);
        return 0;
    } catch (const Error& error) {
        std::cerr << error.what() << "\n  " << error.hint() << '\n';
        return static_cast<int>(error.blame());
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 4;
    }
}
