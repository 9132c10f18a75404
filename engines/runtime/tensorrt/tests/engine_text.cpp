#include "engine_text.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <sstream>

#include "acting.h"

namespace stand_in {
namespace {

std::vector<std::string> split(const std::string& words, char separator) {
    std::vector<std::string> found;
    std::istringstream stream(words);
    for (std::string word; std::getline(stream, word, separator);) found.push_back(word);
    return found;
}

std::int64_t computed(const std::string& operation, std::int64_t a, std::int64_t b) {
    if (operation == "+") return a + b;
    if (operation == "-") return a - b;
    if (operation == "*") return a * b;
    if (operation == "/") return a / b;
    if (operation == "min") return std::min(a, b);
    if (operation == "max") return std::max(a, b);
    throw "the engine has an operation " + operation;
}

bool is_operation(const std::string& word) {
    return word == "+" || word == "-" || word == "*" || word == "/" || word == "min" ||
           word == "max";
}

std::optional<std::int64_t> value(const std::string& size, const Sizes& known) {
    std::vector<std::int64_t> stack;
    for (const std::string& word : split(size, ':')) {
        if (is_operation(word)) {
            if (stack.size() < 2) throw "the engine has a size " + size;
            const std::int64_t last = stack.back();
            stack.pop_back();
            stack.back() = computed(word, stack.back(), last);
        } else if (std::isdigit(static_cast<unsigned char>(word[0])) != 0) {
            stack.push_back(std::stoll(word));
        } else {
            const auto found = known.find(word);
            if (found == known.end()) return std::nullopt;
            stack.push_back(found->second);
        }
    }
    return stack.at(0);
}

Tensor tensor_from(const std::string& kind, std::istringstream& words) {
    Tensor tensor;
    int type = 0;
    std::string sizes, low, high;
    words >> tensor.name >> type >> sizes;
    if (words.fail()) throw std::string("a tensor of the engine is not whole");
    tensor.type = static_cast<nvinfer1::DataType>(type);
    tensor.on_host = kind == "host";
    tensor.is_input = kind != "out";
    if (sizes != "-") tensor.sizes = split(sizes, ',');
    while (words >> low >> high) {
        tensor.min.push_back(dims_from(low));
        tensor.max.push_back(dims_from(high));
    }
    return tensor;
}

}  // namespace

Shape Tensor::shape(const Sizes& known) const {
    Shape found;
    for (const std::string& size : sizes) found.push_back(value(size, known).value_or(-1));
    return found;
}

EngineText::EngineText(const std::string& text) {
    std::istringstream lines(text);
    std::string line;
    if (!std::getline(lines, line) || line != "d2export stand-in engine") {
        throw std::string("the engine plan file is not compatible with this version of TensorRT");
    }
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string kind;
        words >> kind >> std::ws;
        if (kind == "graph") {
            std::getline(words, graph);
        } else if (kind == "in" || kind == "host" || kind == "out") {
            tensors.push_back(tensor_from(kind, words));
        } else {
            throw "the engine has a line " + line;
        }
    }
    for (const Tensor& tensor : tensors) {
        const int found = static_cast<int>(tensor.min.size());
        if (!tensor.is_input) continue;
        if (found == 0 || (profiles != 0 && profiles != found)) {
            throw "the engine has " + std::to_string(found) + " profiles for " + tensor.name;
        }
        profiles = found;
    }
    if (graph.empty() || profiles == 0) throw std::string("the engine has no graph or no input");
}

const Tensor* EngineText::find(const std::string& name) const {
    const auto found = std::find_if(tensors.begin(), tensors.end(),
                                    [&](const Tensor& tensor) { return tensor.name == name; });
    return found == tensors.end() ? nullptr : &*found;
}

std::string EngineText::graph_name() const { return std::filesystem::path(graph).stem().string(); }

nvinfer1::Dims dims_of(const Shape& shape) {
    nvinfer1::Dims dims{};
    for (const std::int64_t size : shape) {
        dims.d[dims.nbDims++] = static_cast<std::decay_t<decltype(dims.d[0])>>(size);
    }
    return dims;
}

std::size_t bytes_of(nvinfer1::DataType type) {
    constexpr std::size_t kBytes[] = {4, 2, 1, 4, 1, 1, 1, 2, 8};
    return kBytes[static_cast<std::size_t>(type)];
}

std::size_t bytes_of(nvinfer1::DataType type, const Shape& shape) {
    std::size_t bytes = bytes_of(type);
    for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
    return bytes;
}

}  // namespace stand_in
