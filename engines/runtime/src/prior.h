// The positional prior: how much attention a place gets whatever the picture shows.
#pragma once

#include <d2export/bundle.h>

#include <cstdint>
#include <vector>

namespace d2export::runtime {

struct Prior {
    std::vector<float> tile, thumbnail;  // a value per visual token of a tile

    // Appends a value per token of a picture: `tile` for each but the last, which is a thumbnail.
    void append_to(std::vector<float>& values, std::int64_t tiles) const;
};

// The prior inside the language model of a bundle: that of its file, else ones. Throws an Error if
// the file is none, or belongs to another model.
Prior stored_prior(const Bundle& bundle);

}  // namespace d2export::runtime
