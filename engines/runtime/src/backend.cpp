// The destructors of what backends implement: one place for their type information.
#include <d2export/backend.h>

namespace d2export::runtime {

VisionOutput::~VisionOutput() = default;
VisionGraph::~VisionGraph() = default;
Cache::~Cache() = default;
DecoderGraph::~DecoderGraph() = default;
Backend::~Backend() = default;

}  // namespace d2export::runtime
