// From Python's arrays to the core's pointers: every rank, length and type is checked here.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "d2export/parameters.h"
#include "d2export/tensors.h"

namespace d2export::python {

// Arrays in host memory, row-major, and what the core calls them. Keeps the arrays alive.
class Arguments {
 public:
    // Throws nanobind::value_error that names the argument. `bits_are_bfloat16`: features of type
    // uint16 are the bits of bfloat16, which numpy lacks.
    Arguments(nanobind::handle features, nanobind::handle importance, nanobind::handle prior,
              nanobind::handle grid, bool bits_are_bfloat16);

    const Shape& shape() const noexcept { return shape_; }
    const Inputs& inputs() const noexcept { return inputs_; }

 private:
    using Array = nanobind::ndarray<nanobind::ro, nanobind::c_contig, nanobind::device::cpu>;

    Array features_;
    Array importance_;
    Array prior_;
    Array grid_;
    Shape shape_;
    Inputs inputs_;
};

// Throws nanobind::value_error with the fault of `parameters`, if there is one.
void require_valid(const Parameters& parameters);

}  // namespace d2export::python
