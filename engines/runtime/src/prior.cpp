#include "prior.h"

#include <d2export/error.h>

#include <algorithm>
#include <limits>
#include <variant>

#include "json_reader.h"
#include "manifest_limits.h"
#include "whole_file.h"

namespace d2export::runtime {
namespace {

std::vector<float> slot(json::Reader& slots, const std::string& name, std::int64_t tokens) {
    std::vector<float> found;
    slots.each(name, [&](json::Value& value, const std::string& at) {
        const double largest = std::numeric_limits<float>::max();
        found.push_back(static_cast<float>(json::real(value, at, 0, largest)));
    });
    if (static_cast<std::int64_t>(found.size()) != tokens) {
        throw json::Mismatch(slots.at(name), "an array of " + std::to_string(found.size()),
                             "one of " + std::to_string(tokens) + ", the model's tokens per tile");
    }
    return found;
}

// Whoever wrote the file may have left it out, or written something else.
std::optional<std::array<std::int64_t, 2>> tiles_seen(json::Reader& top) {
    if (!top.present("provenance")) {
        return std::nullopt;
    }
    const auto* const facts = std::get_if<json::Object>(&top.any("provenance").data);
    for (const json::Member& fact : facts == nullptr ? json::Object{} : *facts) {
        const auto* const ends = std::get_if<json::Array>(&fact.value.data);
        if (fact.key != "tiles_per_image" || ends == nullptr || ends->size() != 2) {
            continue;
        }
        const auto* const fewest = std::get_if<std::int64_t>(&ends->front().data);
        const auto* const most = std::get_if<std::int64_t>(&ends->back().data);
        if (fewest != nullptr && most != nullptr) {
            return std::array<std::int64_t, 2>{*fewest, *most};
        }
    }
    return std::nullopt;
}

}  // namespace

std::string Prior::outside_seen(std::vector<std::int64_t> tiles) const {
    if (!tiles_per_image) {
        return "";
    }
    const auto [fewest, most] = *tiles_per_image;
    std::sort(tiles.begin(), tiles.end());
    std::string others;
    std::int64_t before = -1;
    for (const std::int64_t count : tiles) {
        if (count != before && (count < fewest || count > most)) {
            others += (others.empty() ? "" : " and one of ") + std::to_string(count);
        }
        before = count;
    }
    if (others.empty()) {
        return "";
    }
    return "the prior was calibrated on pictures of " +
           (fewest < most ? std::to_string(fewest) + " to " : "") + std::to_string(most) + " tile" +
           (most > 1 ? "s" : "") + "; here is one of " + others;
}

void Prior::append_to(std::vector<float>& values, std::int64_t tiles) const {
    for (std::int64_t i = 0; i + 1 < tiles; ++i) {
        values.insert(values.end(), tile.begin(), tile.end());
    }
    values.insert(values.end(), thumbnail.begin(), thumbnail.end());
}

Prior stored_prior(const Bundle& bundle) {
    const Manifest& manifest = bundle.manifest();
    const std::int64_t tokens = manifest.vision.tokens_per_tile();
    if (!manifest.pruning.prior_path) {
        const std::vector<float> ones(static_cast<std::size_t>(tokens), 1.0F);
        return {ones, ones, std::nullopt};
    }
    const auto path = bundle.path(*manifest.pruning.prior_path);
    try {
        json::Value document = json::parse(whole_file(path, kMaxManifestBytes));
        json::Reader top(document, "");
        top.one_of("format", {"d2export-prior"});
        top.whole("version", 1, 1);
        json::Reader slots = top.object("slots");
        std::vector<float> tile = slot(slots, "tile", tokens);
        return {std::move(tile), slot(slots, "thumbnail", tokens), tiles_seen(top)};
    } catch (const json::Mismatch& mismatch) {
        throw bad_input("prior " + path.string() + ": " + mismatch.what(), kBuildAgain);
    }
}

}  // namespace d2export::runtime
