#include <d2export/bundle.h>
#include <d2export/error.h>

#include <algorithm>

#include "json_reader.h"
#include "manifest_limits.h"
#include "verified_file.h"
#include "whole_file.h"

namespace d2export::runtime {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";

fs::path folder(const fs::path& path) {
    std::error_code problem;
    const fs::path root = fs::canonical(path, problem);
    if (!problem && fs::is_directory(root, problem)) {
        return root;
    }
    const std::string found = problem == std::errc::no_such_file_or_directory ? "not there"
                              : problem ? "not readable (" + problem.message() + ")"
                                        : "a file";
    throw bad_input(path.string() + " is " + found + ", expected the folder of a bundle",
                    "Check the path.");
}

fs::path inside(const fs::path& root, const std::string& relative) {
    if (!json::is_relative_path(relative)) {
        throw bad_input(root.string() + ": a path is " + json::describe(relative) +
                            ", expected a relative path with / between its parts and no '..'",
                        kBuildAgain);
    }
    const fs::path path = root / relative;
    std::error_code problem;
    const fs::path resolved = fs::weakly_canonical(path, problem);
    if (problem) {
        throw bad_input(path.string() + " cannot be followed: " + problem.message(), kBuildAgain);
    }
    const auto differ = std::mismatch(root.begin(), root.end(), resolved.begin(), resolved.end());
    if (differ.first != root.end()) {
        throw bad_input(path.string() + " leads out of the bundle, to " + resolved.string(),
                        "Copy the bundle with its links resolved: cp -rL BUNDLE COPY");
    }
    return path;
}

std::string read_text(const fs::path& root) {
    const fs::path path = root / kManifest;
    std::error_code problem;
    if (!fs::is_regular_file(path, problem)) {
        throw bad_input(root.string() + " is not a bundle: it has no " + kManifest +
                            ", which a build writes last",
                        "Check the path, or build it: d2export build --help");
    }
    return whole_file(inside(root, kManifest), kMaxManifestBytes);
}

}  // namespace

Bundle::Bundle(const fs::path& path, Verify verify)
    : root_(folder(path)),
      manifest_(parse_manifest(read_text(root_), (root_ / kManifest).string())) {
    for (const auto& [relative, entry] : manifest_.files) {
        inside(root_, relative);
    }
    for (const auto& [relative, entry] : manifest_.files) {
        verify_file(root_ / relative, entry, verify, kManifest, kBuildAgain);
    }
}

fs::path Bundle::path(const std::string& relative) const { return inside(root_, relative); }

}  // namespace d2export::runtime
