#include "d2export/cuda_positions.h"
#include "kernel.h"
#include "launch.h"
#include "problem.h"

namespace d2export::cuda {

std::string fault(const PromptShape& shape) {
    constexpr std::int64_t kMostImages = kMaxItems / kTile;
    const auto found = [](const char* input, std::int32_t count, const char* what) {
        return std::string(input) + " has " + std::to_string(count) + what;
    };
    if (shape.tokens > kMaxTokens) {
        return excess(found("visual_positions", shape.tokens, " tokens"), kMaxTokens);
    }
    if (shape.channels > kMaxChannels) {
        return excess(found("hidden_states", shape.channels, " channels"), kMaxChannels);
    }
    if (shape.length > kMaxItems) {
        return excess(found("hidden_states", shape.length, " tokens"), kMaxItems);
    }
    if (shape.images > kMostImages) {
        return excess(found("image_lengths", shape.images, " images"), kMostImages);
    }
    return {};
}

std::size_t workspace_bytes(const PromptShape& shape,
                            const PositionsParameters& parameters) noexcept {
    std::size_t bytes = 0;
    lay_out(shape, DataType::kFloat32, parameters, nullptr, &bytes);
    return bytes + kAlignment - 1;
}

cudaError_t select_positions(const PromptShape& shape, const PromptInputs& inputs,
                             const PositionsParameters& parameters, std::int32_t* positions,
                             void* workspace, cudaStream_t stream) noexcept {
    PromptProblem problem = lay_out(shape, inputs.type, parameters, aligned(workspace), nullptr);
    if (problem.surviving == 0) {
        return cudaSuccess;
    }
    problem.inputs = {inputs.hidden_states, inputs.importance, inputs.prior, inputs.grid,
                      inputs.type};
    problem.visual_positions = inputs.visual_positions;
    problem.image_lengths = inputs.image_lengths;
    problem.positions = positions;
    const std::int64_t counting = (std::int64_t{shape.length} + kThreads - 1) / kThreads;
    const std::int64_t useful =
        has_choice(problem) ? std::int64_t{shape.images} * kTile * 2 : counting;
    return launch(kernel_of(Rule::kPositions, inputs.type), useful, &problem, stream);
}

}  // namespace d2export::cuda
