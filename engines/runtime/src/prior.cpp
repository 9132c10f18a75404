#include "prior.h"

#include <d2export/error.h>

#include <limits>

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

}  // namespace

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
        return {ones, ones};
    }
    const auto path = bundle.path(*manifest.pruning.prior_path);
    try {
        json::Value document = json::parse(whole_file(path, kMaxManifestBytes));
        json::Reader top(document, "");
        top.one_of("format", {"d2export-prior"});
        top.whole("version", 1, 1);
        json::Reader slots = top.object("slots");
        std::vector<float> tile = slot(slots, "tile", tokens);
        return {std::move(tile), slot(slots, "thumbnail", tokens)};
    } catch (const json::Mismatch& mismatch) {
        throw bad_input("prior " + path.string() + ": " + mismatch.what(), kBuildAgain);
    }
}

}  // namespace d2export::runtime
