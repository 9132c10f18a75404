// Pictures through the vision graph, on their own or as parts of a prompt.
#pragma once

#include <d2export/model.h>

#include <vector>

#include "model_state.h"

namespace d2export::runtime {

// Throws an Error unless a prompt is given just where the vision graph needs one.
void check_prompt(const Manifest& manifest, const Matrix& prompt);

// The visual tokens of one picture. Throws an Error: the graph cannot run, or answers what cannot
// be.
Seen see(const VisionGraph& graph, const Manifest& manifest, const Tiles& tiles,
         const Matrix& prompt);

// A prompt for the decoder: each image through the vision graph.
Prompt prompt_of(const ModelState& model, const Encoded& encoded, const std::vector<Tiles>& images);

}  // namespace d2export::runtime
