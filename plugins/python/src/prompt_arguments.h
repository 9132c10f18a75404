// The same for a prompt: the inputs of D2PrunePositions.
#pragma once

#include <nanobind/nanobind.h>

#include "arrays.h"
#include "d2export/prompt.h"

namespace d2export::python {

struct GivenPrompt {
    nanobind::handle hidden_states;
    nanobind::handle importance;
    nanobind::handle prior;
    nanobind::handle grid;
    nanobind::handle visual_positions;
    nanobind::handle image_lengths;
};

// Arrays in host memory, row-major, and what the core calls them. Keeps the arrays alive.
class PromptArguments {
 public:
    // Throws nanobind::value_error that names the argument, also for values that do not fit.
    PromptArguments(const GivenPrompt& given, bool bits_are_bfloat16);

    const PromptShape& shape() const noexcept { return shape_; }
    const PromptInputs& inputs() const noexcept { return inputs_; }

 private:
    RowMajor hidden_states_;
    RowMajor importance_;
    RowMajor prior_;
    RowMajor grid_;
    RowMajor visual_positions_;
    RowMajor image_lengths_;
    PromptShape shape_;
    PromptInputs inputs_;
};

}  // namespace d2export::python
