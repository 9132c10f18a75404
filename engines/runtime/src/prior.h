// The positional prior: how much attention a place gets whatever the picture shows.
#pragma once

#include <d2export/bundle.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace d2export::runtime {

struct Prior {
    std::vector<float> tile, thumbnail;  // a value per visual token of a tile

    // Appends a value per token of a picture: `tile` for each but the last, which is a thumbnail.
    void append_to(std::vector<float>& values, std::int64_t tiles) const;

    // What is unusual about pictures of so many tiles each: the prior saw none such; else empty.
    std::string outside_seen(std::vector<std::int64_t> tiles) const;

    // Fewest and most tiles of the pictures it was measured on, if it says so.
    std::optional<std::array<std::int64_t, 2>> tiles_per_image = std::nullopt;
};

// The prior inside the language model of a bundle: that of its file, else ones. Throws an Error if
// the file is none, or belongs to another model.
Prior stored_prior(const Bundle& bundle);

}  // namespace d2export::runtime
