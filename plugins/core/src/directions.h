// Tokens as directions in whole numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dots.h"
#include "pictures.h"
#include "scratch.h"

namespace d2export {

class Directions {
 public:
    Directions(std::int32_t capacity, std::int32_t channels, Scratch& scratch) noexcept
        : channels_(channels),
          length_(padded(channels)),
          numbers_(scratch.take<std::int16_t>(static_cast<std::size_t>(capacity) * length_)) {}

    // Of a row, padded.
    std::size_t length() const noexcept { return length_; }

    const std::int16_t* operator()(std::int32_t row) const noexcept {
        return numbers_ + static_cast<std::size_t>(row) * length_;
    }

    // Row `row` becomes that of `token`. Returns its product with itself, 0 if it has no direction.
    std::int32_t load(std::int32_t row, const Picture& picture, std::int32_t token) noexcept {
        return load_direction(picture.features, picture.type, static_cast<std::size_t>(token),
                              channels_, numbers_ + static_cast<std::size_t>(row) * length_);
    }

 private:
    std::int32_t channels_;
    std::size_t length_;
    std::int16_t* numbers_;  // [capacity, length]
};

}  // namespace d2export
