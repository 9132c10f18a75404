#include "arguments.h"

namespace nb = nanobind;

namespace d2export::python {
namespace {

void require_prior(nb::handle prior, const Shape& shape) {
    const Any means = viewed("prior", prior);
    require_shape("prior", means, means.ndim() == 1 && fits(means, 0, shape.tokens),
                  "[" + std::to_string(shape.tokens) + "]");
}

void require_grid(nb::handle grid, const Shape& shape) {
    const Any centres = viewed("grid", grid);
    require_shape("grid", centres,
                  centres.ndim() == 2 && fits(centres, 0, shape.tokens) && fits(centres, 1, 2),
                  "[" + std::to_string(shape.tokens) + ", 2]");
}

}  // namespace

Arguments::Arguments(const Given& given, bool bits_are_bfloat16) {
    const Any features = viewed("features", given.features);
    require_shape("features", features, features.ndim() == 3, "[B, N, C]");
    inputs_.type = feature_type("features", features, bits_are_bfloat16);
    shape_.batch = extent("features", features, 0);
    shape_.tokens = extent("features", features, 1);
    shape_.channels = extent("features", features, 2);
    if (given.importance.is_valid()) {
        shape_.heads = heads_of(given.importance, shape_);
    }
    if (given.prior.is_valid()) {
        require_prior(given.prior, shape_);
    }
    if (given.grid.is_valid()) {
        require_grid(given.grid, shape_);
    }
    features_ = row_major("features", given.features);
    inputs_.features = features_.data();
    if (given.importance.is_valid()) {
        inputs_.importance = floats("importance", given.importance, importance_);
    }
    if (given.prior.is_valid()) {
        inputs_.prior = floats("prior", given.prior, prior_);
    }
    if (given.grid.is_valid()) {
        inputs_.grid = floats("grid", given.grid, grid_);
    }
}

}  // namespace d2export::python
