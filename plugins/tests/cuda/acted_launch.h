// A CUDA runtime that is acted out: what it answers, what it was asked, and what is looked at in a
// launch.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "../../cuda/src/kernel.h"
#include "../../cuda/src/problem.h"
#include "d2export/cuda.h"

namespace d2export::tests {

struct Runtime {
    cudaError_t get_device = cudaSuccess;
    cudaError_t get_attribute = cudaSuccess;
    cudaError_t get_occupancy = cudaSuccess;
    cudaError_t get_function = cudaSuccess;
    cudaError_t launch = cudaSuccess;
    int resident = 2;         // blocks of each of the 132 processors
    unsigned fits = 1 << 20;  // blocks of one launch
    cudaError_t last_error = cudaSuccess;
    std::vector<unsigned> launches = {};  // blocks of each
    cuda::PromptProblem problem = {};     // of the last launch; but for D2PrunePositions a Problem
    const void* kernel = nullptr;         // the last asked for
};
inline Runtime runtime;

inline const char kernels[5][3] = {};  // their addresses stand for the kernels, by rule and type

inline void demand(bool condition, const std::string& what) {
    if (!condition) {
        std::printf("FAILED: %s\n", what.c_str());
        std::exit(1);
    }
}

// The arrays of an op, in no order: [first byte, byte behind the last).
using Array = std::pair<const unsigned char*, const unsigned char*>;

template <typename T>
void add(std::vector<Array>& arrays, const T* array, std::size_t count) {
    if (array != nullptr) {
        const auto* const first = reinterpret_cast<const unsigned char*>(array);
        arrays.emplace_back(first, first + count * sizeof(T));
    }
}

inline std::vector<Array> arrays_of(const cuda::Problem& problem) {
    const auto size = [](std::int32_t count) { return static_cast<std::size_t>(count); };
    const cuda::Workspace& at = problem.workspace;
    const std::size_t batch = size(problem.shape.batch);
    const std::size_t tokens = batch * size(problem.shape.tokens);
    std::vector<Array> arrays;
    add(arrays, at.keys, tokens);
    add(arrays, at.order, tokens);
    add(arrays, at.stays, batch * size(problem.words));
    add(arrays, at.panel, batch * size(problem.capacity));
    add(arrays, at.panel_scale, batch * size(problem.capacity));
    add(arrays, at.tile_scale, batch * cuda::kTile);
    add(arrays, at.products, batch * size(problem.splits) * cuda::kTile * size(problem.pitch));
    add(arrays, at.rivals, batch * cuda::kTile * (cuda::kTile / cuda::kWord));
    add(arrays, at.blocked, batch * cuda::kTile);
    add(arrays, at.progress, batch);
    add(arrays, at.diagonal, 1);
    add(arrays, at.open, 1);
    add(arrays, static_cast<const std::uint16_t*>(at.directions), tokens * size(problem.width));
    add(arrays, at.pairs, batch * size(problem.side) * size(problem.side));
    add(arrays, at.nearest, tokens);
    add(arrays, at.scale, tokens);
    add(arrays, at.scores, tokens);
    add(arrays, at.left, tokens);
    add(arrays, at.basis, tokens * size(problem.wanted));
    add(arrays, at.offers, 2 * tokens / cuda::kRowsAtOnce);
    add(arrays, at.nearness, tokens);
    return arrays;
}

// Aligned, inside of the workspace, and none over another.
inline void check_arrays(std::vector<Array> arrays, const unsigned char* workspace,
                         std::size_t bytes) {
    std::sort(arrays.begin(), arrays.end());
    demand(arrays.front().first >= workspace && arrays.back().second <= workspace + bytes,
           "arrays lie inside");
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        demand(reinterpret_cast<std::uintptr_t>(arrays[i].first) % 256 == 0, "arrays are aligned");
        demand(i == 0 || arrays[i - 1].second <= arrays[i].first, "arrays do not overlap");
    }
}

// D2PrunePositions.
void check_positions();

}  // namespace d2export::tests
