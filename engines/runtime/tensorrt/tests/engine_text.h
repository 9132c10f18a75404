// The engines that the libnvinfer of the tests runs: a text, which names an ONNX graph and says
// what a real engine knows of it.
//
//   d2export stand-in engine
//   graph /where/it/is/decoder.onnx
//   in past_key_values.0.key 0 1,6,past,32 1x6x0x32 1x6x0x32 1x6x1x32 1x6x4095x32
//   out present.0.key 0 1,6,past:sequence:+,32
//   out positions 3 ?
//
// An input has a name, a number of nvinfer1::DataType, its sizes, and for each profile the smallest
// and the largest shape; `host` in place of `in` is one that lies in the host's memory. A size is a
// number or a name. That of an output may be computed from names and numbers, in postfix notation
// with + - * / min max, or ?, which only a run knows. A scalar's sizes are -.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace stand_in {

using Shape = std::vector<std::int64_t>;
using Sizes = std::map<std::string, std::int64_t>;  // by name

struct Tensor {
    bool is_input = false, on_host = false;
    std::string name;
    nvinfer1::DataType type{};
    std::vector<std::string> sizes;
    std::vector<nvinfer1::Dims> min, max;  // by profile

    // With -1 for what the names do not tell.
    Shape shape(const Sizes& known) const;
};

struct EngineText {
    // Throws std::string: it is no such text.
    explicit EngineText(const std::string& text);

    const Tensor* find(const std::string& name) const;
    std::string graph_name() const;  // `decoder`

    std::string graph;
    std::vector<Tensor> tensors;
    int profiles = 0;
};

nvinfer1::Dims dims_of(const Shape& shape);
std::size_t bytes_of(nvinfer1::DataType type);
std::size_t bytes_of(nvinfer1::DataType type, const Shape& shape);

}  // namespace stand_in
