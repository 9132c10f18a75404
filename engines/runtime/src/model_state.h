// What a model is made of.
#pragma once

#include <d2export/model.h>

#include <memory>
#include <optional>

#include "prior.h"

namespace d2export::runtime {

struct ModelState {
    Bundle bundle;
    std::shared_ptr<const Backend> backend;  // outlives what it opened
    std::shared_ptr<const VisionGraph> vision;
    std::shared_ptr<const DecoderGraph> decoder;  // in scope vlm
    std::optional<Tokenizer> tokenizer;           // in scope vlm, where the checkpoint had one
    Prior prior;
};

}  // namespace d2export::runtime
