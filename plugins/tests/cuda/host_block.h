// A block of the GPU, acted out on the host: every step runs for all threads of the block in turn,
// in an order that the test chooses. A step that depended on another thread of the same step, or a
// phase that read shared memory it had not written, would answer differently from order to order.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "../../cuda/src/phases/all.h"

namespace d2export::cuda {

enum class Order { kForward, kBackward, kWarpsBackward };

// What TensorProducts does on the GPU: a 16 x 16 tile a warp, half or bfloat16 in, float sums.
template <typename T>
class WarpProducts {
 public:
    void add(const unsigned char* rows, const unsigned char* columns, std::int32_t thread) {
        if (thread % kWarp != 0) {
            return;  // the warp acts as one
        }
        const std::int32_t first_row = row_of(thread), first_column = column_of(thread);
        for (std::int32_t r = 0; r < kSide; ++r) {
            for (std::int32_t c = 0; c < kSide; ++c) {
                float& sum =
                    sums_[static_cast<std::size_t>((thread / kWarp * kSide + r) * kSide + c)];
                for (std::int32_t k = 0; k < kChunkBytes / static_cast<std::int32_t>(sizeof(T));
                     ++k) {
                    sum += element(rows, first_row + r, k) * element(columns, first_column + c, k);
                }
            }
        }
    }

    void store(float* to, std::int32_t pitch, std::int32_t thread) {
        store_at(to, pitch, 1, thread);
    }

    void store_transposed(float* to, std::int32_t pitch, std::int32_t thread) {
        store_at(to, 1, pitch, thread);
    }

 private:
    static constexpr std::int32_t kSide = 16;
    static constexpr std::int32_t kWarp = 32;
    static constexpr std::int32_t kAcross = kColumnTile / kSide;

    static std::int32_t row_of(std::int32_t thread) { return thread / kWarp / kAcross * kSide; }
    static std::int32_t column_of(std::int32_t thread) { return thread / kWarp % kAcross * kSide; }

    void store_at(float* to, std::int32_t row_step, std::int32_t column_step,
                  std::int32_t thread) const {
        if (thread % kWarp != 0) {
            return;
        }
        for (std::int32_t r = 0; r < kSide; ++r) {
            for (std::int32_t c = 0; c < kSide; ++c) {
                to[(row_of(thread) + r) * row_step + (column_of(thread) + c) * column_step] =
                    sums_[static_cast<std::size_t>((thread / kWarp * kSide + r) * kSide + c)];
            }
        }
    }

    static float element(const unsigned char* rows, std::int32_t row, std::int32_t k) {
        T value;
        std::memcpy(&value, rows + row * kRowBytes + k * static_cast<std::int32_t>(sizeof(T)),
                    sizeof value);
        return to_float(value);
    }

    std::vector<float> sums_ = std::vector<float>(kRowTile * kColumnTile);
};

class HostBlock {
 public:
    HostBlock(std::int32_t index, std::int32_t count, Order order)
        : index_(index), count_(count), threads_(kThreads), copies_(kThreads) {
        std::iota(threads_.begin(), threads_.end(), 0);
        if (order == Order::kBackward) {
            std::reverse(threads_.begin(), threads_.end());
        } else if (order == Order::kWarpsBackward) {
            for (std::int32_t& thread : threads_) {
                thread = kThreads - 32 - thread / 32 * 32 + thread % 32;
            }
        }
        std::memset(shared_->bytes, kUnknown, sizeof shared_->bytes);
    }

    std::int32_t index() const { return index_; }
    std::int32_t count() const { return count_; }

    template <typename T>
    T& shared() {
        return *reinterpret_cast<T*>(shared_->bytes);
    }

    template <typename Step>
    void each(const Step& step) {
        for (const std::int32_t thread : threads_) {
            running_ = static_cast<std::size_t>(thread);
            step(thread);
        }
    }

    template <typename T>
    class PerThread {
     public:
        T& at(std::int32_t thread) { return values_[static_cast<std::size_t>(thread)]; }

     private:
        std::vector<T> values_ = std::vector<T>(kThreads);
    };

    // Blocks are threads of the host, so these are atomic here, too.
    void set_bits(std::uint32_t* word, std::uint32_t bits) {
        __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
    }
    void subtract(std::int32_t* word, std::int32_t count) {
        __atomic_fetch_sub(word, count, __ATOMIC_RELAXED);
    }

    // What is copied can be read only when its thread has waited for it, as on the GPU.
    void copy16(void* to, const void* from) {
        std::memset(to, kUnknown, 16);
        Copy copy{to, {}};
        if (from != nullptr) {
            std::memcpy(copy.bytes.data(), from, copy.bytes.size());
        }
        copies_[running_].open.push_back(copy);
    }
    void commit_copies() {
        copies_[running_].groups.push_back(std::move(copies_[running_].open));
        copies_[running_].open.clear();
    }
    template <std::size_t kLeft>
    void wait_for_copies() {
        auto& groups = copies_[running_].groups;
        for (; groups.size() > kLeft; groups.pop_front()) {
            for (const Copy& copy : groups.front()) {
                std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
            }
        }
    }

    template <typename T>
    using Products =
        std::conditional_t<std::is_same_v<T, float>, FloatProducts<HostBlock>, WarpProducts<T>>;

 private:
    static constexpr unsigned char kUnknown = 0xFF;  // a NaN, and -1

    struct Copy {
        void* to;
        std::array<unsigned char, 16> bytes;
    };
    struct Copies {
        std::vector<Copy> open;
        std::deque<std::vector<Copy>> groups;
    };
    struct alignas(128) Shared {
        unsigned char
            bytes[std::max({sizeof(D2Shared), sizeof(PairsShared), sizeof(PositionsShared)})];
    };

    std::int32_t index_;
    std::int32_t count_;
    std::size_t running_ = 0;
    std::vector<std::int32_t> threads_;
    std::vector<Copies> copies_;
    std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
};

}  // namespace d2export::cuda
