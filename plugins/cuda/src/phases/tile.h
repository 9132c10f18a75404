// Products of rows, a tile at a time: kRowTile rows with kColumnTile others, whose channels pass
// through shared memory chunk by chunk.
#pragma once

#include "block.h"

namespace d2export::cuda {

inline constexpr std::int32_t kChunkBytes = 128;  // of each row, in shared memory at a time
inline constexpr std::int32_t kRowBytes =
    kChunkBytes + kVector;                  // so that rows start in other banks
inline constexpr std::int32_t kStages = 3;  // chunks on their way
inline constexpr std::int32_t kRows = kRowTile + kColumnTile;

struct ProductsShared {
    alignas(32) unsigned char chunks[kStages][kRows][kRowBytes];
    std::int32_t tokens[kRows];  // of the rows, then of the others; -1 where there is none
};

// Rows of elements T, one after the other.
template <typename T>
struct Rows {
    const T* first;
    std::int32_t width;  // elements of each
};

// Starts to bring one chunk into shared memory, from element `start` on: this thread's part of it.
template <typename T, typename Block>
D2EXPORT_PHASE void load_chunk(Block& block, const Rows<T>& rows, std::int32_t start,
                               std::int32_t stage, std::int32_t thread, ProductsShared& shared) {
    constexpr std::int32_t kPerVector = kVector / static_cast<std::int32_t>(sizeof(T));
    constexpr std::int32_t kVectors = kChunkBytes / kVector;
    for (std::int32_t i = thread; i < kRows * kVectors; i += kThreads) {
        const std::int32_t token = shared.tokens[i / kVectors];
        const std::int32_t at = start + i % kVectors * kPerVector;
        unsigned char* const to = &shared.chunks[stage][i / kVectors][i % kVectors * kVector];
        const T* const row = rows.first + static_cast<std::int64_t>(larger(token, 0)) * rows.width;
        if (rows.width % kPerVector == 0) {
            const bool there = token >= 0 && at < rows.width;
            block.copy16(to, there ? row + at : nullptr);
        } else {  // rows that do not start at multiples of 16 bytes
            for (std::int32_t e = 0; e < kPerVector; ++e) {
                const bool there = token >= 0 && at + e < rows.width;
                reinterpret_cast<T*>(to)[e] = there ? row[at + e] : T{};
            }
        }
    }
}

// Adds to `products` those of the rows of shared.tokens, over `bytes` of each from byte `first` on.
template <typename T, typename Block, typename Products>
D2EXPORT_PHASE void multiply_rows(Block& block, const Rows<T>& rows, std::int32_t first,
                                  std::int32_t bytes, Products& products) {
    auto& shared = block.template shared<ProductsShared>();
    const std::int32_t chunks = divide_up(bytes, kChunkBytes);
    const auto load = [&](std::int32_t chunk, std::int32_t thread) {
        if (chunk < chunks) {
            const std::int32_t start =
                (first + chunk * kChunkBytes) / static_cast<std::int32_t>(sizeof(T));
            load_chunk(block, rows, start, chunk % kStages, thread, shared);
        }
        block.commit_copies();
    };
    block.each([&](std::int32_t thread) {
        for (std::int32_t chunk = 0; chunk < kStages - 1; ++chunk) {
            load(chunk, thread);
        }
        block.template wait_for_copies<kStages - 2>();
    });
    for (std::int32_t chunk = 0; chunk < chunks; ++chunk) {
        block.each([&](std::int32_t thread) {
            load(chunk + kStages - 1, thread);  // where the chunk before this one was
            const auto& chunk_rows = shared.chunks[chunk % kStages];
            products.add(chunk_rows[0], chunk_rows[kRowTile], thread);
            block.template wait_for_copies<kStages - 2>();
        });
    }
}

}  // namespace d2export::cuda
