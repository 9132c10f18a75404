// Builds the engine of a plan.
#pragma once

#include <filesystem>
#include <optional>

#include "libraries.h"
#include "log.h"
#include "plan.h"

namespace d2export::tool {

// `plugin` is the library of the plan's plugin; nothing if it has none. The engine appears complete
// or not at all.
void build(const Libraries& libraries, Log& log, const Plan& plan,
           const std::filesystem::path& onnx, const std::filesystem::path& engine,
           const std::optional<std::filesystem::path>& plugin);

// Loads a plugin's library into the registry.
void load_plugin(const Libraries& libraries, const Log& log, const std::filesystem::path& library);

}  // namespace d2export::tool
