#include <cstring>

#include "d2export/select.h"

namespace d2export {

void gather(const Shape& shape, const Inputs& inputs, std::int32_t kept_tokens,
            const std::int32_t* indices, void* kept) noexcept {
    const std::size_t row = static_cast<std::size_t>(shape.channels) * bytes_of(inputs.type);
    if (row == 0) {
        return;
    }
    const std::size_t picture = static_cast<std::size_t>(shape.tokens) * row;
    const auto* from = static_cast<const unsigned char*>(inputs.features);
    auto* to = static_cast<unsigned char*>(kept);
    for (std::int32_t b = 0; b < shape.batch; ++b, from += picture) {
        for (std::int32_t k = 0; k < kept_tokens; ++k, ++indices, to += row) {
            std::memcpy(to, from + static_cast<std::size_t>(*indices) * row, row);
        }
    }
}

}  // namespace d2export
