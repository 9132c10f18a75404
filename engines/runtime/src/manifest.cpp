#include <d2export/error.h>
#include <d2export/manifest.h>

#include <algorithm>
#include <iterator>

#include "contradictions.h"
#include "json_reader.h"
#include "manifest_limits.h"
#include "sha256.h"

namespace d2export::runtime {
namespace {

using json::Mismatch;
using json::Reader;
using json::Value;

struct TypeRow {
    DataType type;
    const char* name;
    std::int64_t bytes;
};
constexpr TypeRow kTypes[] = {
    {DataType::kFloat32, "float32", 4},   {DataType::kFloat16, "float16", 2},
    {DataType::kBfloat16, "bfloat16", 2}, {DataType::kInt64, "int64", 8},
    {DataType::kInt32, "int32", 4},       {DataType::kUint8, "uint8", 1},
    {DataType::kBool, "bool", 1}};

DataType read_type(Reader& at) {
    const std::string name =
        at.one_of("dtype", {"float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"});
    return std::find_if(std::begin(kTypes), std::end(kTypes),
                        [&](const TypeRow& row) { return row.name == name; })
        ->type;
}

std::array<double, 3> read_colour(Reader& at, const std::string& name) {
    std::vector<double> found;
    at.each(name, [&](Value& value, const std::string& where) {
        found.push_back(json::real(value, where));
    });
    if (found.size() != 3) {
        throw Mismatch(at.at(name), "an array of " + std::to_string(found.size()), "an array of 3");
    }
    return {found[0], found[1], found[2]};
}

ImageSpec read_image_spec(Reader at) {
    ImageSpec spec{at.whole("size", 1), read_colour(at, "mean"), read_colour(at, "std"),
                   at.whole("max_tiles", 1), at.truth("pad_to_square")};
    for (std::size_t i = 0; i < spec.std.size(); ++i) {
        if (spec.std[i] <= 0) {
            throw Mismatch(at.at("std") + "[" + std::to_string(i) + "]",
                           json::describe(Value{spec.std[i]}), "above 0");
        }
    }
    at.close();
    return spec;
}

VisionSpec read_vision(Reader at) {
    VisionSpec spec{read_image_spec(at.object("image")), at.whole("patch", 1), 1};
    for (const char* name : {"hidden", "layers", "used_layers", "heads", "mlp"}) {
        at.whole(name, 1);
    }
    at.real("norm_eps");
    at.text("activation");
    for (const char* name : {"patch_bias", "pre_norm", "layer_scale", "projector_norm"}) {
        at.truth(name);
    }
    spec.downsample = at.whole("downsample", 1);
    at.truth("class_token");
    at.close();
    return spec;
}

TextSpec read_text(Reader at) {
    TextSpec spec{at.text("backbone"),         at.whole("hidden", 1),   at.whole("layers", 1),
                  at.whole("heads", 1),        at.whole("kv_heads", 1), at.whole("vocab", 1),
                  at.whole("max_positions", 1)};
    at.whole("mlp", 1);
    at.real("rope_theta");
    at.real("norm_eps");
    at.truth("tied");
    at.close();
    return spec;
}

std::optional<std::string> read_line_or_null(Reader& at, const std::string& name) {
    return at.given(name) ? std::optional(at.line(name)) : std::nullopt;
}

std::optional<std::int64_t> read_count_or_null(Reader& at, const std::string& name,
                                               std::int64_t low,
                                               std::int64_t high = json::kMaxInteger) {
    return at.given(name) ? std::optional(at.whole(name, low, high)) : std::nullopt;
}

void read_model(Reader at, Manifest& manifest) {
    manifest.model = at.line("name");
    manifest.family = at.one_of("family", {"internvl", "llava"});
    const std::string source = at.one_of("source", {"hub", "folder", "package", "random"});
    const auto id = read_line_or_null(at, "id");
    read_line_or_null(at, "revision");
    const auto seed = read_count_or_null(at, "random_seed", 0);
    at.truth("trained");
    manifest.vision = read_vision(at.object("vision"));
    manifest.text = read_text(at.object("text"));
    at.close();
    if (source == "hub" && !id) {
        throw Mismatch(at.at("id"), "null", "a hub id, since model.source is \"hub\"");
    }
    if (source == "random" && !seed) {
        throw Mismatch(at.at("random_seed"), "null", "a seed, since model.source is \"random\"");
    }
}

SelectorFields read_selector(Reader at) {
    SelectorFields found;
    found.name = at.one_of("name", {"d2", "d2+", "fastv", "divprune", "cdpruner", "vispruner",
                                    "dart", "sms", "random", "uniform"});
    if (at.given("importance")) {
        found.importance =
            at.one_of("importance", {"cls", "text", "uniform", "llm", "random", "stride"});
    }
    found.keep = read_count_or_null(at, "keep", 1);
    found.keep_permille = read_count_or_null(at, "keep_permille", 1, 1000);
    found.min_keep = read_count_or_null(at, "min_keep", 1);
    found.max_keep = read_count_or_null(at, "max_keep", 1);
    found.budget = at.one_of("budget", {"image", "tile", "prompt"});
    at.members("settings", [&](json::Member& setting, const std::string& where) {
        if (setting.value.is_null() || setting.value.data.index() > 4) {
            throw Mismatch(where, json::describe(setting.value),
                           "true or false or an integer or a finite number or a string");
        }
        found.settings[setting.key] = setting.value;
    });
    read_count_or_null(at, "importance_layer", 0);
    found.prune_layer = read_count_or_null(at, "prune_layer", 1);
    found.contiguous = at.one_of("position_ids", {"original", "contiguous"}) == "contiguous";
    Reader prior = at.object("prior");
    found.prior_source = prior.one_of("source", {"none", "file", "shallow"});
    if (prior.given("path")) {
        found.prior_path = prior.path("path");
    }
    found.prior_has_digest = prior.given("sha256");
    if (found.prior_has_digest) {
        prior.sha256("sha256");
    }
    prior.members("provenance", [](json::Member&, const std::string&) {});
    prior.close();
    at.close();
    return found;
}

std::vector<ValueSpec> read_values(Reader& graph, const std::string& name) {
    std::vector<ValueSpec> found;
    graph.each(name, [&](Value& value, const std::string& where) {
        Reader at(value, where);
        ValueSpec spec{at.line("name"), read_type(at), {}};
        at.each("shape", [&](Value& side, const std::string& place) {
            if (std::holds_alternative<std::string>(side.data)) {
                spec.shape.emplace_back(json::line(side, place));
            } else {
                spec.shape.emplace_back(json::whole(side, place, 0));
            }
        });
        at.close();
        found.push_back(std::move(spec));
    });
    return found;
}

GraphSpec read_graph(Reader at) {
    GraphSpec spec{at.path("path"), read_values(at, "inputs"), read_values(at, "outputs")};
    at.close();
    return spec;
}

void read_graphs(Reader at, Manifest& manifest) {
    manifest.vision_graph = read_graph(at.object("vision"));
    if (at.given("decoder")) {
        manifest.decoder_graph = read_graph(at.object("decoder"));
    }
    manifest.prune_graph = read_graph(at.object("prune"));
    at.close();
}

void read_weights(Reader at) {
    at.one_of("mode", {"linked", "copied"});
    read_line_or_null(at, "source");
    at.close();
}

EmbeddingSpec read_embedding(Reader at) {
    EmbeddingSpec spec{at.path("path"), at.whole("offset", 0), read_type(at), 0, 0};
    std::vector<std::int64_t> shape;
    at.each("shape", [&](Value& side, const std::string& where) {
        shape.push_back(json::whole(side, where, 1));
    });
    if (shape.size() != 2) {
        throw Mismatch(at.at("shape"), "an array of " + std::to_string(shape.size()),
                       "an array of 2");
    }
    at.close();
    spec.rows = shape[0];
    spec.width = shape[1];
    return spec;
}

void read_references(Reader& top, std::vector<UsedPath>& used) {
    top.each("references", [&](Value& value, const std::string& where) {
        Reader at(value, where);
        at.line("name");
        used.push_back({at.at("path"), at.path("path")});
        at.whole("tiles", 1);
        at.whole("tokens", 1);
        if (at.given("image")) {
            used.push_back({at.at("image"), at.path("image")});
        }
        at.close();
    });
}

void read_tolerances(Reader at) {
    at.real("embeddings_rtol", 0);
    at.real("logits_rtol", 0);
    at.real("indices_agreement", 0, 1);
    at.close();
}

FileSpec read_file(Reader at) {
    FileSpec spec{at.whole("bytes", 0), at.sha256("sha256"), std::nullopt};
    if (at.present("ranges")) {
        auto& ranges = spec.ranges.emplace();
        at.each("ranges", [&](Value& value, const std::string& where) {
            const auto* pair = std::get_if<json::Array>(&value.data);
            if (pair == nullptr || pair->size() != 2) {
                throw Mismatch(where, json::describe(value), "an array of 2");
            }
            ranges.emplace_back(json::whole((*pair)[0], where + "[0]", 0),
                                json::whole((*pair)[1], where + "[1]", 1));
        });
    }
    at.close();
    return spec;
}

// Whether there is one; its file is added to what is used.
bool read_quantization(Reader& top, std::vector<UsedPath>& used) {
    if (!top.present("quantization")) {
        return false;
    }
    Reader at = top.object("quantization");
    used.push_back({at.at("path"), at.path("path")});
    at.one_of("method", {"best", "max", "percentile", "entropy"});
    at.whole("pictures", 1);
    at.whole("products", 1);
    at.whole("int8", 0);
    at.close();
    return true;
}

Manifest read_manifest(Value& document) {
    Reader top(document, "");
    Manifest manifest{};
    std::vector<UsedPath> used;
    manifest.schema = top.whole("schema", kManifestSchema, kManifestSchema);
    Reader tool = top.object("tool");
    tool.one_of("name", {"d2export"});
    manifest.tool_version = tool.line("version");
    tool.close();
    manifest.scope = top.one_of("scope", {"vision", "vlm"});
    read_model(top.object("model"), manifest);
    const SelectorFields selector = read_selector(top.object("selector"));
    manifest.precision = top.one_of("precision", {"fp32", "fp16", "bf16", "int8"});
    top.whole("opset", 1);
    read_graphs(top.object("graphs"), manifest);
    top.each("layers", [](Value& value, const std::string& where) { json::line(value, where); });
    read_weights(top.object("weights"));
    if (top.given("prompt_embedding")) {
        manifest.embedding = read_embedding(top.object("prompt_embedding"));
    }
    read_references(top, used);
    read_tolerances(top.object("tolerances"));
    top.members("versions", [&](json::Member& version, const std::string& where) {
        json::line(Value{version.key}, where);
        manifest.versions[version.key] = json::text(version.value, where);
    });
    top.members("files", [&](json::Member& file, const std::string& where) {
        json::path(Value{file.key}, where);
        manifest.files[file.key] = read_file(Reader(file.value, where));
    });
    const bool quantized = read_quantization(top, used);
    top.close();
    manifest.pruning = pruning_of(selector, manifest.scope);
    refuse_contradictions(manifest, selector, quantized, used);
    return manifest;
}

// Who wrote it, before anything that another version may write otherwise.
void refuse_other_schemas(const Value& document, const std::string& where) {
    const auto* members = std::get_if<json::Object>(&document.data);
    if (members == nullptr) {
        return;
    }
    std::string writer = "a d2export";
    std::int64_t schema = kManifestSchema;
    for (const json::Member& member : *members) {
        if (const auto* found = std::get_if<std::int64_t>(&member.value.data);
            found != nullptr && member.key == "schema") {
            schema = *found;
        }
        if (const auto* tool = std::get_if<json::Object>(&member.value.data);
            tool != nullptr && member.key == "tool") {
            for (const json::Member& fact : *tool) {
                if (fact.key == "version") {
                    writer = "d2export " + json::describe(fact.value);
                }
            }
        }
    }
    if (schema != kManifestSchema) {
        throw bad_input(where + ": the bundle has schema " + std::to_string(schema) +
                            ", written by " + writer + "; this library (d2export " +
                            D2EXPORT_VERSION + ") reads schema " + std::to_string(kManifestSchema),
                        schema > kManifestSchema ? "Use a newer runtime library."
                                                 : "Build the bundle again with a newer d2export.");
    }
}

// Takes the member `digest` out of the document.
Value take_digest(Value& document) {
    Value found{nullptr};
    if (auto* members = std::get_if<json::Object>(&document.data)) {
        const auto place =
            std::find_if(members->begin(), members->end(),
                         [](const json::Member& member) { return member.key == "digest"; });
        if (place != members->end()) {
            found = std::move(place->value);
            members->erase(place);
        }
    }
    return found;
}

}  // namespace

std::int64_t item_bytes(DataType type) { return kTypes[static_cast<std::size_t>(type)].bytes; }

const char* name_of(DataType type) { return kTypes[static_cast<std::size_t>(type)].name; }

Manifest parse_manifest(std::string_view text, const std::string& where) {
    if (text.size() > kMaxManifestBytes) {
        throw bad_input(where + " has more than " + std::to_string(kMaxManifestBytes) + " bytes",
                        kBuildAgain);
    }
    try {
        Value document = json::parse(text);
        refuse_other_schemas(document, where);
        const Value digest = take_digest(document);
        Manifest manifest = read_manifest(document);
        const std::string expected = sha256(json::canonical(document));
        const auto* found = std::get_if<std::string>(&digest.data);
        if (found == nullptr || *found != expected) {
            throw bad_input(where + ": manifest.json was edited after the build: its digest is " +
                                json::describe(digest) + ", expected " + expected,
                            kBuildAgain);
        }
        return manifest;
    } catch (const Mismatch& mismatch) {
        throw bad_input(where + ": " + mismatch.what(), kBuildAgain);
    }
}

}  // namespace d2export::runtime
