// A prompt with its images as the decoder takes it: laid out by its budget, thinned if seen so.
// d2export/runtime/request.py is the same in Python.
#pragma once

#include <d2export/model.h>

#include <vector>

#include "prior.h"

namespace d2export::runtime {

// `seen` holds what the vision graph answered for each image: the tokens that stay, if it prunes.
Prompt laid_out(const Encoded& encoded, const std::vector<Tiles>& images, std::vector<Seen> seen,
                const Prior& prior, const Manifest& manifest);

// Which visual tokens of each image survived, counted from 0 in the image; `positions`, ascending,
// are tokens of the whole prompt.
std::vector<std::vector<std::int32_t>> kept_per_image(const Encoded& encoded,
                                                      const std::vector<std::int64_t>& positions);

}  // namespace d2export::runtime
