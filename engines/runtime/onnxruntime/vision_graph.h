// vision.onnx: pixels to visual tokens.
#pragma once

#include <d2export/backend.h>

#include <memory>

#include "session.h"

namespace d2export::runtime::ort {

std::unique_ptr<VisionGraph> open_vision(std::shared_ptr<const Library> library,
                                         const Bundle& bundle, const OnnxRuntimeOptions& options);

}  // namespace d2export::runtime::ort
