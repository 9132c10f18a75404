// From Python's arrays to the core's pointers: every rank, length and type is checked here.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

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
    using Array = nanobind::ndarray<nanobind::ro, nanobind::c_contig, nanobind::device::cpu>;

    // An array of floats, null where there is none.
    const float* floats(const char* name, nanobind::handle object, Array& array);

    Array features_;
    Array importance_;
    Array prior_;
    Array grid_;
    Shape shape_;
    Inputs inputs_;
};

// Throws nanobind::value_error with `fault`, unless it is empty.
void require_valid(const std::string& fault);

}  // namespace d2export::python
