// What backends share: the destructors, one place for their type information, and numbers that are
// on the host anyway.
#include <d2export/backend.h>
#include <d2export/error.h>

#include <cstring>

namespace d2export::runtime {

VisionOutput::~VisionOutput() = default;
VisionGraph::~VisionGraph() = default;
Cache::~Cache() = default;
DecoderGraph::~DecoderGraph() = default;
Backend::~Backend() = default;
DeviceMemory::~DeviceMemory() = default;

void Backend::to_host(const Matrix& from, void* to) const {
    if (from.place != Place::kHost) {
        throw bad_input("the numbers lie on a GPU, which " + name() + " does not know",
                        "Ask the model that answered them.");
    }
    const std::int64_t bytes = from.rows * from.columns * item_bytes(from.type);
    if (bytes > 0) {
        std::memcpy(to, from.data, static_cast<std::size_t>(bytes));
    }
}

}  // namespace d2export::runtime
