// The tokens that candidates are compared with, as unit vectors: the graph's rows, built as the
// walk reaches them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "d2export/tensors.h"
#include "scratch.h"

namespace d2export {

// What makes two tokens neighbours.
struct Neighbourhood {
    const void* features;  // [N, C] of one picture
    DataType type;
    const float* grid;  // [N, 2]
    float diagonal;
    float alpha;
    float theta;
};

class KeptPanel {
 public:
    // Room for `rows` tokens and the candidate after them.
    KeptPanel(std::int32_t rows, std::int32_t channels, Scratch& scratch) noexcept;

    void clear() noexcept { count_ = 0; }

    // Makes `token` the candidate.
    void stage(const Neighbourhood& neighbourhood, std::int32_t token) noexcept;

    // Whether the candidate is a neighbour of any token of the panel.
    bool has_neighbour(const Neighbourhood& neighbourhood) noexcept;

    // Adds the candidate to the panel.
    void join() noexcept { ++count_; }

 private:
    bool any_neighbour(const Neighbourhood& neighbourhood, const std::int32_t* others,
                       std::int32_t count) const noexcept;

    std::int32_t channels_;
    std::size_t stride_;
    std::int32_t count_ = 0;
    float* units_;          // [rows + 1, stride]
    float* x_;              // [rows + 1]
    float* y_;              // [rows + 1]
    float* reach_;          // [rows + 1], no cosine with this row exceeds it
    float* nearness_;       // [rows], of the candidate
    std::int32_t* within_;  // [rows], those near enough to be neighbours
};

}  // namespace d2export
