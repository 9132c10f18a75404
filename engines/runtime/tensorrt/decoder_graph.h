// The decoder engine: tokens in, the next one's logits out; keys and values stay on the GPU.
#pragma once

#include <d2export/backend.h>

#include <memory>

#include "engine.h"

namespace d2export::runtime::trt {

std::unique_ptr<DecoderGraph> open_decoder(std::shared_ptr<const Machine> machine,
                                           const Bundle& bundle);

}  // namespace d2export::runtime::trt
