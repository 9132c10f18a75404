#include "arguments.h"

namespace d2export::onnxruntime {

Arguments::Arguments(const OrtApi& api, const OrtKernelContext& context, DataType type, int count) {
    const Tensor features(api, context, 0, "features");
    features.require(features.extents.size() == 3, "[B, N, C]");
    shape.batch = features.extent(0);
    shape.tokens = features.extent(1);
    shape.channels = features.extent(2);
    inputs.features = features.data;
    inputs.type = type;
    check(api, api.GetTensorMemoryInfo(features.value, &memory));
    if (count > 1) {
        const Tensor importance(api, context, 1, "importance");
        shape.heads = heads_of(importance, shape.batch, shape.tokens);
        inputs.importance = importance.floats();
    }
    if (count > 2) {
        const Tensor prior(api, context, 2, "prior");
        require_prior(prior, shape.tokens);
        inputs.prior = prior.floats();
    }
    if (count > 3) {
        const Tensor grid(api, context, 3, "grid");
        require_grid(grid, shape.tokens);
        inputs.grid = grid.floats();
    }
}

PromptArguments::PromptArguments(const OrtApi& api, const OrtKernelContext& context,
                                 DataType type) {
    const Tensor states(api, context, 0, "hidden_states");
    const Tensor importance(api, context, 1, "importance");
    const Tensor prior(api, context, 2, "prior");
    const Tensor grid(api, context, 3, "grid");
    const Tensor positions(api, context, 4, "visual_positions");
    const Tensor lengths(api, context, 5, "image_lengths");
    states.require(states.extents.size() == 3 && states.extents[0] == 1, "[1, T, C]");
    positions.require(positions.extents.size() == 1, "[V]");
    lengths.require(lengths.extents.size() == 1, "[I]");
    shape.length = states.extent(1);
    shape.channels = states.extent(2);
    shape.tokens = positions.extent(0);
    shape.images = lengths.extent(0);
    positions.require(shape.tokens <= shape.length,
                      "no more than the " + std::to_string(shape.length) + " of hidden_states");
    shape.heads = heads_of(importance, 1, shape.length);
    require_prior(prior, shape.tokens);
    require_grid(grid, shape.tokens);
    inputs = {states.data,   importance.floats(),     prior.floats(),
              grid.floats(), {positions.data, false}, {lengths.data, false},
              type};
    check(api, api.GetTensorMemoryInfo(states.value, &memory));
}

}  // namespace d2export::onnxruntime
