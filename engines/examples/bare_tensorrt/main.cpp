// bare_tensorrt VISION.plan PLUGIN.so [COLUMNS ROWS [PIXELS.f32]]: what the vision engine of a
// bundle answers for one picture, by TensorRT 8.6 to 11 and the plugin alone. This is what a
// program does that has a language model of its own and wants pruned visual tokens for it.
//
// A picture is COLUMNS x ROWS tiles, and a thumbnail behind them if that is more than one. PIXELS
// holds them as docs/bundle.md says, [tiles, 3, S, S] float32; without it they are noise.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <charconv>
#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "picture.h"

namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

struct Log : nvinfer1::ILogger {
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kWARNING) std::cerr << "TensorRT: " << message << '\n';
    }
};

void check(cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

template <typename Answer>
Answer need(Answer answer, const std::string& otherwise) {
    if (!answer) throw std::runtime_error(otherwise);
    return answer;
}

std::string text_of(const Dims& dims) {
    std::string text;
    for (int axis = 0; axis < dims.nbDims; ++axis) {
        text += (axis > 0 ? ", " : "") + std::to_string(dims.d[axis]);
    }
    return "[" + text + "]";
}

std::size_t elements(const Dims& dims) {
    std::size_t count = 1;
    for (int axis = 0; axis < dims.nbDims; ++axis) count *= static_cast<std::size_t>(dims.d[axis]);
    return count;
}

std::size_t bytes_of(DataType type) {
    switch (type) {
        case DataType::kFLOAT:
        case DataType::kINT32:
            return 4;
        case DataType::kHALF:
#if NV_TENSORRT_MAJOR >= 10  // 8.6 has no such type
        case DataType::kBF16:
#endif
            return 2;
        default:
            throw BadInput("the engine is none of a bundle: no tensor of those has type " +
                           std::to_string(static_cast<int>(type)));
    }
}

// Memory of the GPU and a stream, freed by their owners.
struct Free {
    void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

DeviceMemory device_memory(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes));
    return DeviceMemory(memory);
}

struct Stream {
    Stream() { check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
    ~Stream() { cudaStreamDestroy(handle); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    cudaStream_t handle = nullptr;
};

int number(const std::string& name, const std::string& text) {
    int found = 0;
    const char* const end = text.data() + text.size();
    const auto [stopped, problem] = std::from_chars(text.data(), end, found);
    if (problem != std::errc() || stopped != end || found < 1 || found > 100) {
        throw BadInput(name + " is '" + text + "', expected a number from 1 to 100");
    }
    return found;
}

void run(const std::string& plan, const std::string& plugin, const Picture& picture) {
    // CUDA comes first: where there is no GPU it says so, and TensorRT crashes. Then the runtime,
    // because the registry writes to its log, and the plugin before the engine, which names it.
    const Stream stream;
    Log log;
    const std::unique_ptr<nvinfer1::IRuntime> runtime(
        need(nvinfer1::createInferRuntime(log), "TensorRT makes no runtime"));
    need(getPluginRegistry()->loadLibrary(plugin.c_str()), "TensorRT cannot load " + plugin);
    const std::string bytes = file_bytes(plan);
    const std::unique_ptr<nvinfer1::ICudaEngine> engine(need(
        runtime->deserializeCudaEngine(bytes.data(), bytes.size()),
        "TensorRT cannot read " + plan + ": it needs the TensorRT, GPU and plugin of its build"));
    const std::unique_ptr<nvinfer1::IExecutionContext> context(
        need(engine->createExecutionContext(), "TensorRT cannot run " + plan));
    std::vector<DeviceMemory> memory;

    // Host memory has to stay until the copies are done.
    std::vector<std::vector<float>> inputs;
    std::vector<std::string> outputs;
    for (int index = 0; index < engine->getNbIOTensors(); ++index) {
        const std::string name = engine->getIOTensorName(index);
        if (engine->getTensorIOMode(name.c_str()) == nvinfer1::TensorIOMode::kOUTPUT) {
            outputs.push_back(name);
            continue;
        }
        // An engine takes from one tile on, so that its smallest shape says what a tile has.
        using Selector = nvinfer1::OptProfileSelector;
        Dims shape = engine->getProfileShape(name.c_str(), 0, Selector::kMIN);
        const Dims most = engine->getProfileShape(name.c_str(), 0, Selector::kMAX);
        const auto per_tile = static_cast<std::size_t>(shape.d[0]);
        shape.d[0] *= picture.tiles();
        if (shape.d[0] > most.d[0]) {
            throw BadInput(name + " is " + text_of(shape) + ", the engine takes up to " +
                           text_of(most));
        }
        if (name == "pixel_values") {
            inputs.push_back(pixel_values(picture, elements(shape)));
        } else if (name == "token_grid") {
            inputs.push_back(token_grid(picture, per_tile));
        } else {  // prompt_embeds, with importance `text`: they come from your language model
            throw BadInput("the engine takes " + name + ", which this example does not have");
        }
        const std::size_t size = inputs.back().size() * sizeof(float);
        memory.push_back(device_memory(size));
        check(cudaMemcpyAsync(memory.back().get(), inputs.back().data(), size,
                              cudaMemcpyHostToDevice, stream.handle));
        need(context->setInputShape(name.c_str(), shape), "TensorRT refuses the shape of " + name);
        need(context->setTensorAddress(name.c_str(), memory.back().get()), "no memory for " + name);
    }

    // Shapes of outputs follow from those of inputs. Only where the numbers decide how many tokens
    // stay (selector `sms`) one is -1, and an nvinfer1::IOutputAllocator would have to wait for it.
    std::vector<std::string> answers;
    for (const std::string& name : outputs) {
        const Dims shape = context->getTensorShape(name.c_str());
        for (int axis = 0; axis < shape.nbDims; ++axis) {
            if (shape.d[axis] < 0) {
                throw BadInput(name + " is " + text_of(shape) + " before the engine ran");
            }
        }
        answers.emplace_back(elements(shape) * bytes_of(engine->getTensorDataType(name.c_str())),
                             '\0');
        memory.push_back(device_memory(answers.back().size()));
        need(context->setTensorAddress(name.c_str(), memory.back().get()), "no memory for " + name);
    }

    need(context->enqueueV3(stream.handle), "TensorRT cannot run " + plan);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const void* const from = memory[memory.size() - outputs.size() + i].get();
        check(cudaMemcpyAsync(answers[i].data(), from, answers[i].size(), cudaMemcpyDeviceToHost,
                              stream.handle));
    }
    check(cudaStreamSynchronize(stream.handle));

    // image_embeds would go to the language model; which tokens of the picture they are is for you.
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        std::cout << outputs[i] << ' ' << text_of(context->getTensorShape(outputs[i].c_str()));
        if (engine->getTensorDataType(outputs[i].c_str()) == DataType::kINT32) {
            const auto* const indices = reinterpret_cast<const std::int32_t*>(answers[i].data());
            for (std::size_t k = 0; k < answers[i].size() / sizeof *indices; ++k) {
                std::cout << ' ' << indices[k];
            }
        }
        std::cout << '\n';
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> words(arguments + 1, arguments + count);
    try {
        if (words.size() < 2 || words.size() == 3 || words.size() > 5) {
            throw BadInput(
                "usage: bare_tensorrt VISION.plan PLUGIN.so [COLUMNS ROWS [PIXELS.f32]]");
        }
        Picture picture;
        if (words.size() > 3) {
            picture = {number("COLUMNS", words[2]), number("ROWS", words[3]),
                       words.size() > 4 ? words[4] : ""};
        }
        run(words[0], words[1], picture);
        return 0;
    } catch (const BadInput& error) {
        std::cerr << "bare_tensorrt: " << error.what() << '\n';
        return 2;
    } catch (const std::runtime_error& error) {
        std::cerr << "bare_tensorrt: " << error.what() << '\n';
        return 3;
    }
}
