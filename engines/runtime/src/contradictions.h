// What a manifest's types cannot say: how it prunes, and which fields depend on each other.
#pragma once

#include <d2export/manifest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "json_value.h"

namespace d2export::runtime {

// `selector` of a manifest, as it is written there; names as there, empty or nothing for null.
struct SelectorFields {
    std::string name;
    std::string importance;
    std::optional<std::int64_t> keep, keep_permille, min_keep, max_keep;
    std::string budget;
    std::map<std::string, json::Value> settings;
    std::optional<std::int64_t> prune_layer;
    bool contiguous = false;
    std::string prior_source;
    std::optional<std::string> prior_path;
    bool prior_has_digest = false;
};

// A path that a manifest uses, and where it does.
struct UsedPath {
    std::string at;
    std::string path;
};

// Where the graphs prune: d2export/pruning/plan.py says the same in Python.
PruningSpec pruning_of(const SelectorFields& selector, const std::string& scope);

// Throws a json::Mismatch for the first contradiction.
void refuse_contradictions(const Manifest& manifest, const SelectorFields& selector, bool quantized,
                           std::vector<UsedPath> used);

}  // namespace d2export::runtime
