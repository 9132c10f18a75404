// The vision engine: pixels to visual tokens, which stay on the GPU.
#pragma once

#include <d2export/backend.h>

#include <memory>

#include "engine.h"

namespace d2export::runtime::trt {

std::unique_ptr<VisionGraph> open_vision(std::shared_ptr<const Machine> machine,
                                         const Bundle& bundle);

}  // namespace d2export::runtime::trt
