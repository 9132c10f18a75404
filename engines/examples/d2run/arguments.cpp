#include "arguments.h"

#include <charconv>
#include <functional>
#include <map>

namespace d2run {
namespace {

using d2export::runtime::bad_input;
using d2export::runtime::Sampling;

template <typename Number>
Number number(const std::string& option, const std::string& text) {
    Number found{};
    const char* end = text.data() + text.size();
    const auto [stopped, problem] = std::from_chars(text.data(), end, found);
    if (problem != std::errc() || stopped != end) {
        throw bad_input(option + " is '" + text + "', expected a number", "See d2run --help.");
    }
    return found;
}

Sampling& sampling(Arguments& found) {
    return found.request.sampling ? *found.request.sampling : found.request.sampling.emplace();
}

using Take = std::function<void(Arguments&, const std::string& option, const std::string& value)>;

const std::map<std::string, Take> kOptions{
    {"--image", [](auto& to, auto&, auto& value) { to.images.push_back(value); }},
    {"--prompt", [](auto& to, auto&, auto& value) { to.request.prompt = value; }},
    {"--system", [](auto& to, auto&, auto& value) { to.request.system = value; }},
    {"--max-new-tokens",
     [](auto& to, auto& option, auto& value) {
         to.request.max_new_tokens = number<std::int64_t>(option, value);
     }},
    {"--temperature",
     [](auto& to, auto& option, auto& value) {
         sampling(to).temperature = number<double>(option, value);
     }},
    {"--top-k", [](auto& to, auto& option,
                   auto& value) { sampling(to).top_k = number<std::int64_t>(option, value); }},
    {"--top-p", [](auto& to, auto& option,
                   auto& value) { sampling(to).top_p = number<double>(option, value); }},
    {"--seed", [](auto& to, auto& option,
                  auto& value) { sampling(to).seed = number<std::uint64_t>(option, value); }},
    {"--threads", [](auto& to, auto& option,
                     auto& value) { to.onnx_runtime.threads = number<int>(option, value); }},
    {"--onnxruntime", [](auto& to, auto&, auto& value) { to.onnx_runtime.library = value; }},
    {"--custom-ops", [](auto& to, auto&, auto& value) { to.onnx_runtime.custom_ops = value; }},
    {"--repeat",
     [](auto& to, auto& option, auto& value) { to.repeat = number<int>(option, value); }},
    {"--nvinfer", [](auto& to, auto&, auto& value) { to.tensorrt.library = value; }},
    {"--plugin", [](auto& to, auto&, auto& value) { to.tensorrt.plugin = value; }},
    {"--device",
     [](auto& to, auto& option, auto& value) { to.tensorrt.device = number<int>(option, value); }},
    {"--cuda-graphs", [](auto& to, auto& option,
                         auto& value) { to.tensorrt.cuda_graphs = number<int>(option, value); }},
};

const std::map<std::string, bool Arguments::*> kFlags{
    {"--tensorrt", &Arguments::engines},
    {"--null", &Arguments::null_backend},
    {"--manifest-only", &Arguments::manifest_only},
    {"--json", &Arguments::json},
    {"--help", &Arguments::help},
};

}  // namespace

const char* const kUsage =
    "usage: d2run BUNDLE --image FILE --prompt TEXT [options]\n"
    "  --image FILE         a picture; again for more, in the order of their <image> in the "
    "prompt\n"
    "  --prompt TEXT        the question\n"
    "  --system TEXT        instead of the model's own system message\n"
    "  --max-new-tokens N   longest answer (256)\n"
    "  --temperature X, --top-k N, --top-p X, --seed N   draw tokens; else the most likely ones\n"
    "  --onnxruntime FILE   libonnxruntime.so; else the one that the system finds\n"
    "  --custom-ops FILE    libd2export_onnxruntime.so: the pruning ops as native code\n"
    "  --threads N          of one operator; else all cores\n"
    "  --tensorrt           run the bundle's engines instead of its ONNX graphs\n"
    "  --nvinfer FILE       libnvinfer.so; else the one that the system finds\n"
    "  --plugin FILE        libd2export_plugin.so, for engines that were built with it\n"
    "  --device N           number of the GPU (0)\n"
    "  --cuda-graphs N      decode steps that are kept as CUDA graphs (0)\n"
    "  --null               compute nothing: what the host costs\n"
    "  --manifest-only      do not compare files with their SHA-256\n"
    "  --repeat N           ask so many times, and tell of the last (1)\n"
    "  --json               the answer, its tokens, the kept visual tokens and times as JSON\n";

Arguments read(int count, char** arguments) {
    Arguments found;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        if (const auto flag = kFlags.find(argument); flag != kFlags.end()) {
            found.*flag->second = true;
        } else if (const auto option = kOptions.find(argument); option != kOptions.end()) {
            if (i + 1 == count) {
                throw bad_input(argument + " has no value", "See d2run --help.");
            }
            option->second(found, argument, arguments[++i]);
        } else if (argument.rfind("--", 0) == 0 || !found.bundle.empty()) {
            throw bad_input("there is no argument '" + argument + "'", "See d2run --help.");
        } else {
            found.bundle = argument;
        }
    }
    if (found.repeat < 1) {
        throw bad_input("--repeat is " + std::to_string(found.repeat) + ", expected at least 1",
                        "See d2run --help.");
    }
    if (!found.help && (found.bundle.empty() || found.images.empty())) {
        throw bad_input(found.bundle.empty() ? "BUNDLE is missing" : "--image is missing",
                        "For example: d2run out/internvl --image photo.jpg --prompt 'What is it?'");
    }
    return found;
}

}  // namespace d2run
