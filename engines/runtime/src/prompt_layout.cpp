#include "prompt_layout.h"

#include <d2export/error.h>

#include <algorithm>
#include <numeric>

namespace d2export::runtime {
namespace {

constexpr float kGap = 1;  // between two images side by side, in token units

// Each tile counts for itself: its places are the tile's own, those of the image's first one.
void lay_by_tile(const std::vector<Tiles>& images, std::int64_t per_tile, Prompt& prompt) {
    for (const Tiles& image : images) {
        const auto one = image.grid.begin() + 2 * per_tile;
        for (std::int64_t i = 0; i < image.tiles; ++i) {
            prompt.token_grid.insert(prompt.token_grid.end(), image.grid.begin(), one);
            prompt.image_lengths.push_back(per_tile);
        }
    }
}

// All images on one canvas, in a row.
void lay_side_by_side(const std::vector<Tiles>& images, Prompt& prompt) {
    double left = 0;
    for (const Tiles& image : images) {
        float widest = 0;
        for (std::size_t i = 0; i < image.grid.size(); i += 2) {
            prompt.token_grid.push_back(image.grid[i] + static_cast<float>(left));
            prompt.token_grid.push_back(image.grid[i + 1]);
            widest = std::max(widest, image.grid[i]);
        }
        left += double{widest} + kGap;
    }
    prompt.image_lengths = {static_cast<std::int64_t>(prompt.token_grid.size() / 2)};
}

// Where `value` lies in ascending numbers that have it.
std::int64_t place_of(const std::vector<std::int64_t>& ascending, std::int64_t value) {
    return std::lower_bound(ascending.begin(), ascending.end(), value) - ascending.begin();
}

template <typename Number>
std::vector<Number> picked(const std::vector<Number>& values, std::size_t width,
                           const std::vector<std::int64_t>& rows) {
    std::vector<Number> found;
    found.reserve(rows.size() * width);
    for (const std::int64_t row : rows) {
        const auto start = values.begin() + row * static_cast<std::ptrdiff_t>(width);
        found.insert(found.end(), start, start + static_cast<std::ptrdiff_t>(width));
    }
    return found;
}

// Leaves the visual tokens out that the vision graph left out.
void thin(Prompt& prompt, const std::vector<Seen>& seen,
          const std::vector<std::int64_t>& image_lengths) {
    std::vector<std::int64_t> stays;  // of all visual tokens
    std::int64_t start = 0;
    for (std::size_t i = 0; i < seen.size(); ++i) {
        for (const std::int32_t index : seen[i].kept) {
            stays.push_back(start + index);
        }
        start += image_lengths[i];
    }
    std::vector<bool> gone(prompt.input_ids.size());
    for (const std::int64_t position : prompt.visual_positions) {
        gone[static_cast<std::size_t>(position)] = true;
    }
    const std::vector<std::int64_t> kept = picked(prompt.visual_positions, 1, stays);
    for (const std::int64_t position : kept) {
        gone[static_cast<std::size_t>(position)] = false;
    }
    prompt.origin.clear();
    for (std::size_t i = 0; i < gone.size(); ++i) {
        if (!gone[i]) {
            prompt.origin.push_back(static_cast<std::int64_t>(i));
        }
    }
    prompt.input_ids = picked(prompt.input_ids, 1, prompt.origin);
    prompt.token_grid = picked(prompt.token_grid, 2, stays);
    prompt.prior = picked(prompt.prior, 1, stays);
    prompt.visual_positions = kept;
    for (std::int64_t& position : prompt.visual_positions) {
        position = place_of(prompt.origin, position);
    }
    for (std::int64_t& position : prompt.text_positions) {
        position = place_of(prompt.origin, position);
    }
    prompt.image_lengths.clear();
    for (const Seen& one : seen) {
        prompt.image_lengths.push_back(static_cast<std::int64_t>(one.kept.size()));
    }
}

}  // namespace

Prompt laid_out(const Encoded& encoded, const std::vector<Tiles>& images, std::vector<Seen> seen,
                const Prior& prior, const Manifest& manifest) {
    const PruningSpec& pruning = manifest.pruning;
    const std::int64_t per_tile = manifest.vision.tokens_per_tile();
    Prompt prompt;
    prompt.input_ids = encoded.input_ids;
    prompt.visual_positions = encoded.visual_positions;
    prompt.text_positions = encoded.text_positions;
    prompt.contiguous = pruning.contiguous;
    prompt.origin.resize(encoded.input_ids.size());
    std::iota(prompt.origin.begin(), prompt.origin.end(), 0);
    if (pruning.in_decoder && pruning.budget == "tile") {
        lay_by_tile(images, per_tile, prompt);
    } else if (pruning.in_decoder && pruning.budget == "prompt") {
        lay_side_by_side(images, prompt);
    } else {
        prompt.image_lengths = encoded.image_lengths;
        for (const Tiles& image : images) {
            prompt.token_grid.insert(prompt.token_grid.end(), image.grid.begin(), image.grid.end());
        }
    }
    for (const Tiles& image : images) {
        prior.append_to(prompt.prior, image.tiles);
    }
    if (pruning.in_vision) {
        thin(prompt, seen, encoded.image_lengths);
    }
    for (Seen& one : seen) {
        prompt.image_embeds.push_back(one.image_embeds);
        prompt.owners.push_back(std::move(one.owner));
    }
    return prompt;
}

std::vector<std::vector<std::int32_t>> kept_per_image(const Encoded& encoded,
                                                      const std::vector<std::int64_t>& positions) {
    std::vector<std::vector<std::int32_t>> kept;
    auto visual = encoded.visual_positions.begin();
    for (const std::int64_t length : encoded.image_lengths) {
        std::vector<std::int32_t>& of_image = kept.emplace_back();
        for (std::int32_t i = 0; i < length; ++i, ++visual) {
            if (std::binary_search(positions.begin(), positions.end(), *visual)) {
                of_image.push_back(i);
            }
        }
    }
    return kept;
}

}  // namespace d2export::runtime
