// Tensors as ONNX Runtime holds them.
#pragma once

#include <d2export/backend.h>

#include <cstdint>

#include "given.h"
#include "session.h"

namespace d2export::runtime::ort {

using Value = Owned<OrtValue>;

// A tensor over memory of the caller, who keeps it for as long as the value lives. Sides whose
// product is 0 need no memory.
Value borrowed(const Session& session, const Given& given);

// What ONNX Runtime answered, after making sure of its type and number of sides.
struct Answer {
    const void* data;
    std::int64_t sides[2];  // the last ones; 1 for what there is not
    std::int64_t count;
};
Answer answer(const Session& session, OrtValue* value, const char* name, DataType type, int rank);

}  // namespace d2export::runtime::ort
