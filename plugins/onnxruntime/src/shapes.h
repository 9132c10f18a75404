// The shapes of the outputs, where they are known when a graph is loaded.
#pragma once

#include "api.h"

namespace d2export::onnxruntime {

// kept [B, M, C] of `type` and indices [B, M], if `features` has no unknown extent: M has no name
// that could stand for it. Throws Failure.
void infer_shapes(const OrtApi& api, OrtShapeInferContext& context, ONNXTensorElementDataType type);

// positions [T - V + n], if hidden_states, visual_positions and image_lengths have no unknown
// extent.
void infer_positions(const OrtApi& api, OrtShapeInferContext& context);

}  // namespace d2export::onnxruntime
