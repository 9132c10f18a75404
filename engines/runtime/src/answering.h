// Answer a question about pictures: preprocess, see, read, write, one token after the other.
#pragma once

#include <d2export/model.h>

#include <vector>

namespace d2export::runtime {

Answer answered(const Model& model, const std::vector<Image>& images, const Request& request);
Answer answered(const Model& model, const std::vector<Tiles>& images, const Request& request);

}  // namespace d2export::runtime
