/// @file
/// What a bundle says of itself: `manifest.json`, as far as running it needs to know.
#pragma once

#include <d2export/export.h>
#include <d2export/model_spec.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace d2export::runtime {

/// Of a tensor's elements; named as in the manifest.
enum class DataType { kFloat32, kFloat16, kBfloat16, kInt64, kInt32, kUint8, kBool };

/// Bytes of one element.
D2EXPORT_API std::int64_t item_bytes(DataType type);

/// `float32`, `float16`, ...
D2EXPORT_API const char* name_of(DataType type);

/// An input or output of a graph; a string in `shape` names a dynamic dimension.
struct ValueSpec {
    std::string name;
    DataType type;
    std::vector<std::variant<std::int64_t, std::string>> shape;
};

/// One ONNX file; `path` is relative to the bundle.
struct GraphSpec {
    std::string path;
    std::vector<ValueSpec> inputs;
    std::vector<ValueSpec> outputs;
};

/// Which tokens stay, and where that is decided.
struct PruningSpec {
    std::string selector;    ///< `d2`, `d2+`, `fastv`, ...
    std::string importance;  ///< `cls`, `text`, `llm`, ...; empty if the selector reads none
    std::optional<std::int64_t> keep;           ///< tokens for each `budget`
    std::optional<std::int64_t> keep_permille;  ///< a share instead
    std::optional<std::int64_t> max_keep;       ///< the limit, where the picture says how many
    std::string budget;                         ///< `image`, `tile` or `prompt`
    bool in_vision = false;                     ///< the vision graph prunes
    bool in_decoder = false;                    ///< the decoder prunes
    bool padded = false;      ///< the vision graph's outputs have `max_keep` rows, and a count
    bool contiguous = false;  ///< position ids count the tokens that are left
    std::optional<std::string> prior_path;  ///< of the prior inside the language model
};

/// The token embedding matrix `[rows, width]` inside a weight file.
struct EmbeddingSpec {
    std::string path;
    std::int64_t offset;  ///< bytes
    DataType type;        ///< float32, float16 or bfloat16
    std::int64_t rows;
    std::int64_t width;
};

/// Size and SHA-256 of a file. With `ranges`, `[start, stop)` in bytes, the digest covers only
/// these.
struct FileSpec {
    std::int64_t bytes;
    std::string sha256;
    std::optional<std::vector<std::pair<std::int64_t, std::int64_t>>> ranges;
};

/// All of `manifest.json` that running a bundle needs. Plain values, copied freely.
struct Manifest {
    std::int64_t schema;
    std::string tool_version;  ///< of the d2export that wrote the bundle
    std::string scope;         ///< `vision` or `vlm`
    std::string model;         ///< its name
    std::string family;        ///< `internvl` or `llava`
    std::string precision;     ///< `fp32`, `fp16`, `bf16` or `int8`
    VisionSpec vision;
    TextSpec text;
    PruningSpec pruning;
    GraphSpec vision_graph;
    std::optional<GraphSpec> decoder_graph;  ///< in scope `vlm`
    GraphSpec prune_graph;                   ///< the op alone
    std::optional<EmbeddingSpec> embedding;
    std::map<std::string, std::string> versions;
    std::map<std::string, FileSpec> files;  ///< by relative path
};

/// The schema of manifests this library reads.
inline constexpr std::int64_t kManifestSchema = 3;

/// The manifest in the text of a `manifest.json`; nothing is opened.
///
/// Accepts what d2export's Python package accepts, its digest and its limits included. May be
/// called from any number of threads at once.
///
/// @param text UTF-8, at most 16 MiB
/// @param where names the file in messages
/// @throws Error not a manifest, written by another d2export (both versions are named), edited
///     since it was built, or it contradicts itself.
D2EXPORT_API Manifest parse_manifest(std::string_view text,
                                     const std::string& where = "manifest.json");

}  // namespace d2export::runtime
