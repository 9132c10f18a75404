// The ops that are plugins, by their attributes: D2EXPORT_EACH_OP(use) is use(Parameters) and so
// on.
#pragma once

#include <cstdint>

#include "d2export/parameters.h"
#include "d2export/rule_parameters.h"

#define D2EXPORT_EACH_OP(use) \
    use(Parameters) use(MaxMinParameters) use(DppParameters) use(DeduplicateParameters)

namespace d2export::tensorrt {

inline constexpr char kPluginVersion[] = "1";
inline constexpr std::int32_t kMostInputs = 4;
inline constexpr std::int32_t kOutputs = 2;

}  // namespace d2export::tensorrt
