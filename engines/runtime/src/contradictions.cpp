#include "contradictions.h"

namespace d2export::runtime {
namespace {

using json::Mismatch;
using json::Value;

// The selector whose picture says how many tokens stay.
constexpr const char* kUncounted = "sms";

std::string described(const std::optional<std::int64_t>& number) {
    return number ? std::to_string(*number) : "null";
}

std::string text_setting(const SelectorFields& selector, const std::string& name) {
    const auto found = selector.settings.find(name);
    const auto* text =
        found == selector.settings.end() ? nullptr : std::get_if<std::string>(&found->second.data);
    return text == nullptr ? "" : *text;
}

void check_counts(const SelectorFields& selector) {
    const bool counted = selector.name != kUncounted;
    const int given = int{selector.keep.has_value()} + int{selector.keep_permille.has_value()};
    if (given != (counted ? 1 : 0)) {
        throw Mismatch(
            "selector.keep",
            described(selector.keep) + " beside keep_permille " + described(selector.keep_permille),
            counted ? "one of the two, the other null" : "null, as keep_permille");
    }
    if (counted && (selector.min_keep || selector.max_keep)) {
        throw Mismatch(
            "selector.min_keep",
            described(selector.min_keep) + " beside max_keep " + described(selector.max_keep),
            "null both for selector " + selector.name);
    }
}

void check_scope(const Manifest& manifest, const SelectorFields& selector) {
    const bool vlm = manifest.scope == "vlm", inside = manifest.pruning.in_decoder;
    const auto check = [](const char* at, bool present, bool wanted, const std::string& where) {
        if (present != wanted) {
            throw Mismatch(at, present ? "given" : "null", (wanted ? "a value " : "null ") + where);
        }
    };
    check("graphs.decoder", manifest.decoder_graph.has_value(), vlm, "in scope " + manifest.scope);
    check("selector.prune_layer", selector.prune_layer.has_value(), inside,
          "for selector " + selector.name + " in scope " + manifest.scope);
    if (!vlm && selector.importance == "llm") {
        throw Mismatch("selector.importance", "\"llm\"", "another source in scope vision");
    }
    if (selector.prior_path.has_value() != (inside && selector.prior_source == "file")) {
        throw Mismatch("selector.prior.path",
                       selector.prior_path ? json::describe(*selector.prior_path) : "null",
                       "a path for a prior file inside the language model alone");
    }
    if ((selector.prior_source == "file") != selector.prior_has_digest) {
        throw Mismatch("selector.prior.sha256", selector.prior_has_digest ? "given" : "null",
                       "a digest for source \"file\" alone");
    }
}

void check_ranges(const Manifest& manifest) {
    for (const auto& [path, entry] : manifest.files) {
        std::int64_t before = 0;
        if (!entry.ranges) {
            continue;
        }
        for (const auto& [start, stop] : *entry.ranges) {
            if (!(before <= start && start < stop && stop <= entry.bytes)) {
                throw Mismatch(json::member_path("files", path) + ".ranges",
                               "[" + std::to_string(start) + ", " + std::to_string(stop) + "]",
                               "ascending ranges within " + std::to_string(entry.bytes) + " bytes");
            }
            before = stop;
        }
    }
}

// `a * b`, or kMaxInteger where that is more.
std::int64_t product(std::int64_t a, std::int64_t b) {
    return a > json::kMaxInteger / b ? json::kMaxInteger : a * b;
}

void check_embedding(const Manifest& manifest) {
    if (!manifest.embedding) {
        return;
    }
    const EmbeddingSpec& table = *manifest.embedding;
    const std::int64_t size = manifest.files.at(table.path).bytes;
    const std::int64_t length = product(product(table.rows, table.width), item_bytes(table.type));
    if (length > size || table.offset > size - length) {
        throw Mismatch("prompt_embedding.offset",
                       std::to_string(table.offset) + ", so that the matrix ends behind the file",
                       "an end within " + std::to_string(size) + " bytes");
    }
    if (table.type != DataType::kFloat32 && table.type != DataType::kFloat16 &&
        table.type != DataType::kBfloat16) {
        throw Mismatch("prompt_embedding.dtype", json::describe(std::string(name_of(table.type))),
                       "\"float32\" or \"float16\" or \"bfloat16\"");
    }
}

// A few bytes of a manifest may not make a reader ask for gigabytes.
void check_sizes(const Manifest& manifest) {
    const VisionSpec& vision = manifest.vision;
    const TextSpec& text = manifest.text;
    const struct {
        const char* at;
        std::int64_t value, low, high;
    } rows[] = {
        {"model.vision.image.size", vision.image.size, product(vision.patch, vision.downsample),
         1 << 12},
        {"model.vision.image.max_tiles", vision.image.max_tiles, 1, 1 << 10},
        {"model.vision.patch", vision.patch, 1, 1 << 12},
        {"model.vision.downsample", vision.downsample, 1, 1 << 12},
        {"model.text.hidden", text.hidden, text.heads, 1 << 20},
        {"model.text.kv_heads", text.kv_heads, 1, 1 << 16},
        {"model.text.vocab", text.vocab, 1, 1 << 24},
        {"model.text.max_positions", text.max_positions, 1, std::int64_t{1} << 31},
    };
    for (const auto& row : rows) {
        if (row.value < row.low || row.value > row.high) {
            throw Mismatch(
                row.at, std::to_string(row.value),
                "a number from " + std::to_string(row.low) + " to " + std::to_string(row.high));
        }
    }
}

}  // namespace

PruningSpec pruning_of(const SelectorFields& selector, const std::string& scope) {
    const std::string stage = text_setting(selector, "stage");
    const bool in_llm_stage = selector.name == kUncounted && stage != "vision";
    PruningSpec found;
    found.selector = selector.name;
    found.importance = selector.importance;
    found.keep = selector.keep;
    found.keep_permille = selector.keep_permille;
    found.max_keep = selector.max_keep;
    found.budget = selector.budget;
    found.in_decoder = scope == "vlm" && (selector.importance == "llm" || in_llm_stage);
    found.in_vision = selector.importance != "llm" && (scope == "vision" || stage != "llm");
    const auto padded = selector.settings.find("static");
    found.padded = found.in_vision && padded != selector.settings.end() &&
                   std::get_if<bool>(&padded->second.data) != nullptr &&
                   std::get<bool>(padded->second.data);
    found.contiguous = found.in_vision && selector.contiguous;
    found.prior_path = selector.prior_path;
    return found;
}

void refuse_contradictions(const Manifest& manifest, const SelectorFields& selector, bool quantized,
                           std::vector<UsedPath> used) {
    check_counts(selector);
    if (selector.contiguous != (text_setting(selector, "position_ids") == "contiguous")) {
        throw Mismatch("selector.position_ids", selector.contiguous ? "contiguous" : "original",
                       "what selector.settings.position_ids says");
    }
    check_scope(manifest, selector);
    if (quantized != (manifest.precision == "int8")) {
        throw Mismatch("quantization", quantized ? "given" : "null",
                       "a value for precision \"int8\" alone");
    }
    check_ranges(manifest);
    used.push_back({"graphs.vision.path", manifest.vision_graph.path});
    used.push_back({"graphs.prune.path", manifest.prune_graph.path});
    if (manifest.decoder_graph) {
        used.push_back({"graphs.decoder.path", manifest.decoder_graph->path});
    }
    if (selector.prior_path) {
        used.push_back({"selector.prior.path", *selector.prior_path});
    }
    if (manifest.embedding) {
        used.push_back({"prompt_embedding.path", manifest.embedding->path});
    }
    for (const UsedPath& use : used) {
        if (manifest.files.count(use.path) == 0) {
            throw Mismatch(use.at, json::describe(use.path), "a path that is listed in files");
        }
    }
    check_embedding(manifest);
    check_sizes(manifest);
}

}  // namespace d2export::runtime
