#include "seeing.h"

#include <d2export/error.h>

#include <numeric>
#include <string>

#include "embedding_table.h"
#include "prompt_layout.h"

namespace d2export::runtime {
namespace {

Error damaged(const std::string& problem) {
    return bad_input("the vision graph answers " + problem, "Build the bundle again.");
}

// A graph is a file: what it answers is used as indices only after a look.
void check(const VisionOutput& output, const Manifest& manifest, std::int64_t tokens) {
    const Matrix embeds = output.embeds();
    const Span<std::int32_t> kept = output.kept();
    const std::int64_t expected = manifest.pruning.in_vision ? kept.count : tokens;
    if (embeds.rows != expected || embeds.columns != manifest.text.hidden) {
        throw damaged("visual tokens [" + std::to_string(embeds.rows) + ", " +
                      std::to_string(embeds.columns) + "], expected [" + std::to_string(expected) +
                      ", " + std::to_string(manifest.text.hidden) + "]");
    }
    std::int64_t before = -1;
    for (std::int64_t i = 0; i < kept.count; ++i) {
        const std::int64_t index = kept.data[i];
        if (index <= before || index >= tokens) {
            throw damaged("the index " + std::to_string(index) +
                          ", expected ascending ones below " + std::to_string(tokens));
        }
        before = index;
    }
}

// What the encoded prompt has to agree on before anything is indexed with it.
void check_fit(const Encoded& encoded, const std::vector<Tiles>& images, std::int64_t per_tile) {
    const auto tokens = static_cast<std::int64_t>(encoded.input_ids.size());
    bool fits = !images.empty() && images.size() == encoded.image_lengths.size();
    std::int64_t visual = 0;
    for (std::size_t i = 0; fits && i < images.size(); ++i) {
        fits = encoded.image_lengths[i] == images[i].tiles * per_tile &&
               static_cast<std::int64_t>(images[i].grid.size()) == 2 * encoded.image_lengths[i];
        visual += encoded.image_lengths[i];
    }
    fits = fits && static_cast<std::int64_t>(encoded.visual_positions.size()) == visual;
    for (const auto* positions : {&encoded.visual_positions, &encoded.text_positions}) {
        std::int64_t before = -1;
        for (const std::int64_t position : *positions) {
            fits = fits && position > before && position < tokens;
            before = position;
        }
    }
    if (!fits) {
        throw bad_input(
            "the prompt was encoded for other images than these " + std::to_string(images.size()),
            "Pass the lengths of these images to Tokenizer::encode().");
    }
}

}  // namespace

void check_prompt(const Manifest& manifest, const Matrix& prompt) {
    const bool needed = manifest.pruning.in_vision && manifest.pruning.importance == "text";
    if (needed != (prompt.rows > 0)) {
        throw bad_input("this bundle has importance '" + manifest.pruning.importance +
                            "', which needs " + (needed ? "a" : "no") + " prompt",
                        needed ? "Pass input embeddings of the prompt." : "Leave the prompt out.");
    }
    if (needed && (prompt.columns != manifest.text.hidden || prompt.type != DataType::kFloat32)) {
        throw bad_input("the prompt's embeddings are " + std::string(name_of(prompt.type)) +
                            " with " + std::to_string(prompt.columns) +
                            " columns, expected float32 with " +
                            std::to_string(manifest.text.hidden),
                        "Pass input embeddings of this bundle's language model, a row per token.");
    }
}

Seen see(const VisionGraph& graph, const Manifest& manifest, const Tiles& tiles,
         const Matrix& prompt) {
    const std::int64_t side = manifest.vision.image.size;
    const std::int64_t tokens = tiles.tiles * manifest.vision.tokens_per_tile();
    const bool on_device = tiles.device_pixels != nullptr;
    const auto pixels =
        on_device ? tiles.tiles * 3 * side * side : static_cast<std::int64_t>(tiles.pixels.size());
    if (tiles.tiles < 1 || pixels != tiles.tiles * 3 * side * side ||
        static_cast<std::int64_t>(tiles.grid.size()) != 2 * tokens) {
        throw bad_input("the picture has " + std::to_string(pixels) + " values in " +
                            std::to_string(tiles.tiles) + " tiles, expected tiles of " +
                            std::to_string(3 * side * side),
                        "Cut it with prepare() for this model.");
    }
    VisionInput input;
    input.pixels = {on_device ? tiles.device_pixels : tiles.pixels.data(), pixels};
    input.place = on_device ? Place::kDevice : Place::kHost;
    input.tiles = tiles.tiles;
    input.side = side;
    input.grid = {tiles.grid.data(), static_cast<std::int64_t>(tiles.grid.size())};
    input.prompt = prompt;
    std::shared_ptr<VisionOutput> output = graph.run(input);
    check(*output, manifest, tokens);
    Seen seen;
    seen.image_embeds = output->embeds();
    seen.tiles = tiles.tiles;
    if (manifest.pruning.in_vision) {
        const Span<std::int32_t> kept = output->kept();
        seen.kept.assign(kept.data, kept.data + kept.count);
    } else {
        seen.kept.resize(static_cast<std::size_t>(tokens));
        std::iota(seen.kept.begin(), seen.kept.end(), 0);
    }
    seen.owner = std::move(output);
    return seen;
}

Prompt prompt_of(const ModelState& model, const Encoded& encoded,
                 const std::vector<Tiles>& images) {
    const Manifest& manifest = model.bundle.manifest();
    check_fit(encoded, images, manifest.vision.tokens_per_tile());
    std::vector<float> words;
    Matrix prompt;
    if (manifest.pruning.in_vision && manifest.pruning.importance == "text") {
        std::vector<std::int64_t> ids;
        for (const std::int64_t position : encoded.text_positions) {
            ids.push_back(encoded.input_ids[static_cast<std::size_t>(position)]);
        }
        words = embedded(model.bundle, ids);
        prompt = {words.data(), DataType::kFloat32, static_cast<std::int64_t>(ids.size()),
                  manifest.embedding->width};
    }
    check_prompt(manifest, prompt);
    std::vector<Seen> seen;
    for (const Tiles& tiles : images) {
        seen.push_back(see(*model.vision, manifest, tiles, prompt));
    }
    return laid_out(encoded, images, std::move(seen), model.prior, manifest);
}

}  // namespace d2export::runtime
