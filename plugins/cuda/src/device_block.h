// A block of the GPU, as the phases see it (phases/block.h).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
#include <mma.h>

#include "phases/float_products.h"

namespace d2export::cuda {

// Products of half or bfloat16 rows on the tensor cores, float32 sums: a 16 x 16 tile a warp.
template <typename Element>
class TensorProducts {
 public:
    __device__ TensorProducts() { nvcuda::wmma::fill_fragment(sums_, 0.0F); }

    __device__ __forceinline__ void add(const unsigned char* rows, const unsigned char* columns,
                                        std::int32_t thread) {
        namespace wmma = nvcuda::wmma;
        __syncwarp();  // the loads before it may have parted the warp
        constexpr unsigned kPitch = kRowBytes / sizeof(Element);
        const auto* const a = reinterpret_cast<const Element*>(rows + row_of(thread) * kRowBytes);
        const auto* const b =
            reinterpret_cast<const Element*>(columns + column_of(thread) * kRowBytes);
#pragma unroll
        for (std::int32_t k = 0; k < kChunkBytes / static_cast<std::int32_t>(sizeof(Element));
             k += kSide) {
            wmma::fragment<wmma::matrix_a, kSide, kSide, kSide, Element, wmma::row_major> left;
            wmma::fragment<wmma::matrix_b, kSide, kSide, kSide, Element, wmma::col_major> right;
            wmma::load_matrix_sync(left, a + k, kPitch);
            wmma::load_matrix_sync(right, b + k, kPitch);
            wmma::mma_sync(sums_, left, right, sums_);
        }
    }

    // Rows of `to` are rows of the tile.
    __device__ __forceinline__ void store(float* to, std::int32_t pitch, std::int32_t thread) {
        __syncwarp();
        float* const tile =
            to + static_cast<std::size_t>(row_of(thread)) * pitch + column_of(thread);
        nvcuda::wmma::store_matrix_sync(tile, sums_, pitch, nvcuda::wmma::mem_row_major);
    }

    // Rows of `to` are columns of the tile.
    __device__ __forceinline__ void store_transposed(float* to, std::int32_t pitch,
                                                     std::int32_t thread) {
        __syncwarp();
        float* const tile =
            to + static_cast<std::size_t>(column_of(thread)) * pitch + row_of(thread);
        nvcuda::wmma::store_matrix_sync(tile, sums_, pitch, nvcuda::wmma::mem_col_major);
    }

 private:
    static constexpr std::int32_t kSide = 16;
    static constexpr std::int32_t kWarp = 32;
    static constexpr std::int32_t kAcross = kColumnTile / kSide;
    static_assert(kThreads / kWarp * kSide * kSide == kRowTile * kColumnTile);

    static __device__ __forceinline__ std::int32_t row_of(std::int32_t thread) {
        return thread / kWarp / kAcross * kSide;
    }
    static __device__ __forceinline__ std::int32_t column_of(std::int32_t thread) {
        return thread / kWarp % kAcross * kSide;
    }

    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, kSide, kSide, kSide, float> sums_;
};

class DeviceBlock {
 public:
    explicit __device__ DeviceBlock(unsigned char* shared) : shared_(shared) {}

    __device__ __forceinline__ std::int32_t index() const {
        return static_cast<std::int32_t>(blockIdx.x);
    }
    __device__ __forceinline__ std::int32_t count() const {
        return static_cast<std::int32_t>(gridDim.x);
    }

    template <typename T>
    __device__ __forceinline__ T& shared() {
        return *reinterpret_cast<T*>(shared_);
    }

    template <typename Step>
    __device__ __forceinline__ void each(const Step& step) {
        step(static_cast<std::int32_t>(threadIdx.x));
        __syncthreads();
    }

    template <typename T>
    class PerThread {
     public:
        __device__ __forceinline__ T& at(std::int32_t) { return value_; }

     private:
        T value_{};
    };

    __device__ __forceinline__ void set_bits(std::uint32_t* word, std::uint32_t bits) {
        atomicOr(word, bits);
    }
    __device__ __forceinline__ void subtract(std::int32_t* word, std::int32_t count) {
        atomicSub(word, count);
    }

    __device__ __forceinline__ void copy16(void* to, const void* from) {
        if (from != nullptr) {
            __pipeline_memcpy_async(to, from, 16);
        } else {
            *static_cast<uint4*>(to) = uint4{};
        }
    }
    __device__ __forceinline__ void commit_copies() { __pipeline_commit(); }
    template <int kLeft>
    __device__ __forceinline__ void wait_for_copies() {
        __pipeline_wait_prior(kLeft);
    }

    template <typename T>
    struct ProductsOf;
    template <typename T>
    using Products = typename ProductsOf<T>::type;

 private:
    unsigned char* shared_;
};

template <>
struct DeviceBlock::ProductsOf<float> {
    using type = FloatProducts<DeviceBlock>;
};
template <>
struct DeviceBlock::ProductsOf<Half> {
    using type = TensorProducts<__half>;
};
template <>
struct DeviceBlock::ProductsOf<BFloat16> {
    using type = TensorProducts<__nv_bfloat16>;
};

}  // namespace d2export::cuda
