// Limits of manifests, and what to do about one that is damaged.
#pragma once

#include <cstddef>

namespace d2export::runtime {

inline constexpr std::size_t kMaxManifestBytes = std::size_t{16} << 20;
inline constexpr const char* kBuildAgain =
    "Build the bundle again, or copy it again from where it was built.";

}  // namespace d2export::runtime
