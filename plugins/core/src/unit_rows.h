// Tokens as unit vectors with their places: what similarities are computed from.
#pragma once

#include <cstddef>
#include <cstdint>

#include "d2export/prompt.h"
#include "d2export/tensors.h"
#include "scratch.h"

namespace d2export {

// What makes two tokens neighbours.
struct Neighbourhood {
    const void* features;  // rows of C
    DataType type;
    const Integers* rows;  // [N], which rows are the tokens of one picture; null: the first N
    const float* grid;     // [N, 2]
    float diagonal;
    float alpha;
    float theta;
};

class UnitRows {
 public:
    UnitRows(std::int32_t capacity, std::int32_t channels, Scratch& scratch) noexcept;

    std::int32_t count() const noexcept { return count_; }
    std::size_t length() const noexcept { return length_; }
    const float* row(std::int32_t k) const noexcept {
        return units_ + static_cast<std::size_t>(k) * length_;
    }
    std::int32_t token(std::int32_t k) const noexcept { return tokens_[k]; }

    void clear() noexcept { count_ = 0; }
    void drop_last() noexcept { --count_; }
    void append(const Neighbourhood& neighbourhood, std::int32_t token) noexcept;
    void append(const UnitRows& from, std::int32_t k) noexcept;

    // nearness[j] = nearness of row j to row k of `others`, for the rows from `first` on.
    void measure(const UnitRows& others, std::int32_t k, float diagonal, std::int32_t first,
                 float* nearness) const noexcept;

    // Whether row j and row k of `others`, so near to each other, are neighbours at some cosine.
    bool may_be_neighbours(std::int32_t j, const UnitRows& others, std::int32_t k, float nearness,
                           const Neighbourhood& neighbourhood) const noexcept;

 private:
    std::int32_t channels_;
    std::size_t length_;  // of a row, padded
    std::int32_t count_ = 0;
    float* units_;          // [capacity, length]
    std::int32_t* tokens_;  // [capacity]
    float* x_;              // [capacity]
    float* y_;              // [capacity]
    float* reach_;          // [capacity], no cosine with this row exceeds it
};

}  // namespace d2export
