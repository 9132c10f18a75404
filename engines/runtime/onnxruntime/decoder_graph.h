// decoder.onnx: tokens in, the next one's logits out.
#pragma once

#include <d2export/backend.h>

#include <memory>

#include "session.h"

namespace d2export::runtime::ort {

std::unique_ptr<DecoderGraph> open_decoder(std::shared_ptr<const Library> library,
                                           const Bundle& bundle, const OnnxRuntimeOptions& options);

}  // namespace d2export::runtime::ort
