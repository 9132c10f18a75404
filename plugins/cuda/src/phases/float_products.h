// Products of float32 rows: plain multiply-adds, four rows by two columns a thread.
#pragma once

#include "tile.h"

namespace d2export::cuda {

template <typename Block>
class FloatProducts {
 public:
    // Adds one chunk's products: `rows` and `columns` are rows of kRowBytes in shared memory.
    D2EXPORT_PHASE void add(const unsigned char* rows, const unsigned char* columns,
                            std::int32_t thread) {
        Sums& sums = sums_.at(thread);
        for (std::int32_t at = 0; at < kChunkBytes; at += kVector) {
            Four column[kColumns];
            for (std::int32_t c = 0; c < kColumns; ++c) {
                column[c] = four(columns, column_of(thread, c), at);
            }
            for (std::int32_t r = 0; r < kRowsEach; ++r) {
                const Four row = four(rows, row_of(thread, r), at);
                for (std::int32_t c = 0; c < kColumns; ++c) {
                    for (std::int32_t e = 0; e < 4; ++e) {
                        sums.of[r][c] += row.of[e] * column[c].of[e];
                    }
                }
            }
        }
    }

    // Rows of `to` are rows of the tile.
    D2EXPORT_PHASE void store(float* to, std::int32_t pitch, std::int32_t thread) {
        store_at(to, pitch, 1, thread);
    }

    // Rows of `to` are columns of the tile.
    D2EXPORT_PHASE void store_transposed(float* to, std::int32_t pitch, std::int32_t thread) {
        store_at(to, 1, pitch, thread);
    }

 private:
    D2EXPORT_PHASE void store_at(float* to, std::int64_t row_step, std::int64_t column_step,
                                 std::int32_t thread) {
        for (std::int32_t r = 0; r < kRowsEach; ++r) {
            for (std::int32_t c = 0; c < kColumns; ++c) {
                to[row_of(thread, r) * row_step + column_of(thread, c) * column_step] =
                    sums_.at(thread).of[r][c];
            }
        }
    }

    static constexpr std::int32_t kColumns = 2;
    static constexpr std::int32_t kAcross = kColumnTile / kColumns;
    static constexpr std::int32_t kRowsEach = kRowTile * kAcross / kThreads;

    struct alignas(16) Four {
        float of[4];
    };
    struct Sums {
        float of[kRowsEach][kColumns];
    };

    static D2EXPORT_PHASE Four four(const unsigned char* rows, std::int32_t row, std::int32_t at) {
        return *reinterpret_cast<const Four*>(rows + row * kRowBytes + at);
    }
    static D2EXPORT_PHASE std::int32_t row_of(std::int32_t thread, std::int32_t r) {
        return thread / kAcross * kRowsEach + r;
    }
    static D2EXPORT_PHASE std::int32_t column_of(std::int32_t thread, std::int32_t c) {
        return thread % kAcross + c * kAcross;
    }

    typename Block::template PerThread<Sums> sums_{};
};

}  // namespace d2export::cuda
