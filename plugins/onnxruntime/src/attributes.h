// The attributes of a D2Prune node.
#pragma once

#include "api.h"
#include "d2export/parameters.h"

namespace d2export::onnxruntime {

// What the node says, and the defaults of Parameters for the rest.
//
// Throws Failure: an attribute has another type, or a value that Parameters::fault() names.
Parameters read_parameters(const OrtApi& api, const OrtKernelInfo& info);

}  // namespace d2export::onnxruntime
