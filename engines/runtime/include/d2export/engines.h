/// @file
/// The TensorRT engines of a bundle, and whether they fit a machine: asked before one is
/// deserialised.
#pragma once

#include <d2export/bundle.h>
#include <d2export/export.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace d2export::runtime {

/// An engine: its graph (`vision`, `decoder`), its file, relative to the bundle, and what that
/// holds.
struct EngineSpec {
    std::string graph;
    std::string path;
    FileSpec file;
};

/// What was built for a bundle, where, and with what: `engines/engines.json`, and of what was
/// planned, `engines/plan.json`, where else they are to run.
struct Engines {
    std::string tool_version;
    std::string target;
    std::string tensorrt;  ///< its version, such as `10.3.0`
    std::string gpu;       ///< its name
    std::array<std::int64_t, 2> compute_capability;
    std::int64_t memory;                ///< of the GPU, bytes
    std::optional<std::string> plugin;  ///< the library they were built with, in the bundle
    std::vector<EngineSpec> engines;
    bool newer_tensorrt = false;  ///< they were planned to run on later versions, too
    bool other_gpus = false;      ///< and on other GPUs, from compute capability 8.0 on
};

/// A machine that is to run engines.
struct EngineHost {
    std::string tensorrt;  ///< the version of libnvinfer, such as `10.3.0`
    std::string gpu;       ///< its name
    std::array<std::int64_t, 2> compute_capability;
    std::int64_t memory;  ///< of the GPU, bytes
    /// Where the plugin's library lies, if one is there.
    std::filesystem::path plugin;
};

/// The engines of a bundle; none if nothing was built.
///
/// May be called from any number of threads at once.
///
/// @throws Error the record is damaged.
D2EXPORT_API std::optional<Engines> read_engines(const Bundle& bundle);

/// Makes sure that a machine can deserialise engines, and that their files are what was built.
///
/// @throws Error they were built with another TensorRT or for another GPU (both are named), the
///     plugin they need is missing or another one, or a file is missing or was changed.
D2EXPORT_API void check_engines(const Bundle& bundle, const Engines& engines,
                                const EngineHost& host);

}  // namespace d2export::runtime
