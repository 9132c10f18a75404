#include "given.h"

#include <d2export/error.h>

namespace d2export::runtime {
namespace {

Error unknown(const std::string& name, const std::string& path) {
    return bad_input(path + " has the input " + name + ", which is not known here",
                     "Use the runtime library of the d2export that built the bundle.");
}

}  // namespace

Sides::Sides(std::initializer_list<std::int64_t> sides) {
    for (const std::int64_t side : sides) {
        of[rank++] = side;
    }
}

std::int64_t Sides::elements() const {
    std::int64_t count = 1;
    for (std::size_t i = 0; i < rank; ++i) {
        count *= of[i];
    }
    return count;
}

Given given(const VisionInput& input, const std::string& name, const std::string& path) {
    if (name == "pixel_values") {
        return {input.pixels.data,
                DataType::kFloat32,
                {input.tiles, 3, input.side, input.side},
                input.place};
    }
    if (name == "token_grid") {
        return {input.grid.data, DataType::kFloat32, {input.grid.count / 2, 2}};
    }
    if (name == "prompt_embeds") {
        const Matrix& prompt = input.prompt;
        return {prompt.data, prompt.type, {prompt.rows, prompt.columns}, prompt.place};
    }
    throw unknown(name, path);
}

Given given(const DecoderInput& input, const std::string& name, const std::string& path) {
    const auto numbers = [](const Span<std::int64_t>& span) {
        return Given{span.data, DataType::kInt64, {span.count}};
    };
    const auto row = [](const Span<std::int64_t>& span) {
        return Given{span.data, DataType::kInt64, {1, span.count}};
    };
    if (name == "input_ids") {
        return row(input.input_ids);
    }
    if (name == "position_ids") {
        return row(input.position_ids);
    }
    if (name == "visual_positions") {
        return numbers(input.visual_positions);
    }
    if (name == "image_lengths") {
        return numbers(input.image_lengths);
    }
    if (name == "text_positions") {
        return numbers(input.text_positions);
    }
    if (name == "token_grid") {
        return {input.token_grid.data, DataType::kFloat32, {input.token_grid.count / 2, 2}};
    }
    if (name == "prior") {
        return {input.prior.data, DataType::kFloat32, {input.prior.count}};
    }
    throw unknown(name, path);
}

}  // namespace d2export::runtime
