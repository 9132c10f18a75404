/// @file
/// A bundle: the folder that `d2export build` leaves behind.
#pragma once

#include <d2export/export.h>
#include <d2export/manifest.h>

#include <filesystem>
#include <string>

namespace d2export::runtime {

/// How much of a bundle is read before it is trusted.
enum class Verify {
    kEverything,    ///< SHA-256 of every file: seconds for gigabytes
    kManifestOnly,  ///< the manifest, and that every file is there with its size
};

/// An opened bundle: its manifest was read and validated before anything else.
///
/// Immutable and copied freely; may be used from any number of threads at once. It holds no open
/// file: the folder has to stay as it is for as long as models are opened from it.
class D2EXPORT_API Bundle {
 public:
    /// Opens the bundle in the folder `path`.
    ///
    /// @throws Error no bundle, damaged, edited, from another version (both are named), or reaching
    ///     outside of its folder.
    explicit Bundle(const std::filesystem::path& path, Verify verify = Verify::kEverything);

    /// Its folder, absolute and without links.
    const std::filesystem::path& root() const noexcept { return root_; }
    const Manifest& manifest() const noexcept { return manifest_; }

    /// Where the relative path of a file lies.
    ///
    /// @throws Error it is no relative path, or leads out of the bundle, be it by a link.
    std::filesystem::path path(const std::string& relative) const;

 private:
    std::filesystem::path root_;
    Manifest manifest_;
};

}  // namespace d2export::runtime
