// The ops that are plugins, by their attributes: D2EXPORT_EACH_OP(use) is use(Parameters) and so
// on; D2EXPORT_EACH_PRUNE_OP those that return tokens.
#pragma once

#include <cstdint>

#include "d2export/parameters.h"
#include "d2export/rule_parameters.h"

#define D2EXPORT_EACH_PRUNE_OP(use) \
    use(Parameters) use(MaxMinParameters) use(DppParameters) use(DeduplicateParameters)
#define D2EXPORT_EACH_OP(use) D2EXPORT_EACH_PRUNE_OP(use) use(PositionsParameters)

namespace d2export::tensorrt {

inline constexpr char kPluginVersion[] = "1";
inline constexpr std::int32_t kMostInputs = 4;  // of an op that returns tokens

}  // namespace d2export::tensorrt
