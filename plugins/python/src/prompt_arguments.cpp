#include "prompt_arguments.h"

#include "d2export/positions.h"

namespace nb = nanobind;

namespace d2export::python {
namespace {

// How many numbers a list has.
std::int32_t length_of(const char* name, nb::handle object, const char* expected) {
    const Any list = viewed(name, object);
    require_shape(name, list, list.ndim() == 1, expected);
    return extent(name, list, 0);
}

}  // namespace

PromptArguments::PromptArguments(const GivenPrompt& given, bool bits_are_bfloat16) {
    const Any states = viewed("hidden_states", given.hidden_states);
    require_shape("hidden_states", states, states.ndim() == 3 && states.shape(0) == 1, "[1, T, C]");
    inputs_.type = feature_type("hidden_states", states, bits_are_bfloat16);
    shape_.length = extent("hidden_states", states, 1);
    shape_.channels = extent("hidden_states", states, 2);
    shape_.heads = heads_of(given.importance, {1, 1, shape_.length, shape_.channels});
    shape_.tokens = length_of("visual_positions", given.visual_positions, "[V]");
    shape_.images = length_of("image_lengths", given.image_lengths, "[I]");
    const std::string tokens = std::to_string(shape_.tokens);
    const Any means = viewed("prior", given.prior);
    require_shape("prior", means, means.ndim() == 1 && fits(means, 0, shape_.tokens),
                  "[" + tokens + "]");
    const Any centres = viewed("grid", given.grid);
    require_shape("grid", centres,
                  centres.ndim() == 2 && fits(centres, 0, shape_.tokens) && fits(centres, 1, 2),
                  "[" + tokens + ", 2]");
    hidden_states_ = row_major("hidden_states", given.hidden_states);
    inputs_.hidden_states = hidden_states_.data();
    inputs_.importance = floats("importance", given.importance, importance_);
    inputs_.prior = floats("prior", given.prior, prior_);
    inputs_.grid = floats("grid", given.grid, grid_);
    inputs_.visual_positions.data =
        integers("visual_positions", given.visual_positions, visual_positions_);
    inputs_.image_lengths.data = integers("image_lengths", given.image_lengths, image_lengths_);
    require_valid(fault(shape_, inputs_));
}

}  // namespace d2export::python
