// From Python's arrays to the core's pointers: every rank, length and type is checked here.
#pragma once

#include <nanobind/nanobind.h>

#include "arrays.h"
#include "d2export/tensors.h"

namespace d2export::python {

// The inputs of an op, as Python has them; null where the op has no such input.
struct Given {
    nanobind::handle features;
    nanobind::handle importance = {};
    nanobind::handle prior = {};
    nanobind::handle grid = {};
};

// Arrays in host memory, row-major, and what the core calls them. Keeps the arrays alive.
class Arguments {
 public:
    // Throws nanobind::value_error that names the argument. `bits_are_bfloat16`: features of type
    // uint16 are the bits of bfloat16, which numpy lacks.
    Arguments(const Given& given, bool bits_are_bfloat16);

    const Shape& shape() const noexcept { return shape_; }
    const Inputs& inputs() const noexcept { return inputs_; }

 private:
    RowMajor features_;
    RowMajor importance_;
    RowMajor prior_;
    RowMajor grid_;
    Shape shape_;
    Inputs inputs_;
};

}  // namespace d2export::python
