// What classes that stand in for TensorRT's interfaces are made of; see defaults.py.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "defaults.h"

// An interface whose functions are `Functions`.
template <typename Interface, typename Functions>
class Acting : public Interface {
 public:
    template <typename... Arguments>
    explicit Acting(Arguments&&... arguments) : functions_(std::forward<Arguments>(arguments)...) {
        this->mImpl = &functions_;
    }
    const Functions& functions() const { return functions_; }

 private:
    Functions functions_;
};

// As in 1x4; empty for a scalar.
inline std::string text(const nvinfer1::Dims& dims) {
    std::string found;
    for (int axis = 0; axis < dims.nbDims; ++axis) {
        found += (axis == 0 ? "" : "x") + std::to_string(dims.d[axis]);
    }
    return found;
}

// From 1x4, or - for a scalar.
inline nvinfer1::Dims dims_from(const std::string& words) {
    nvinfer1::Dims dims{};
    if (words == "-") return dims;
    std::istringstream sizes(words);
    for (std::string size; std::getline(sizes, size, 'x');) {
        dims.d[dims.nbDims++] = static_cast<std::decay_t<decltype(dims.d[0])>>(std::stoll(size));
    }
    return dims;
}

template <typename Value>
std::string number(Value value) {
    return std::to_string(static_cast<long long>(value));
}
