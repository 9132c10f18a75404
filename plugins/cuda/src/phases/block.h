// How a phase is written: as the work of one block of kThreads threads, in steps with a barrier
// after each. On the GPU a step runs once per thread; on a host it is a loop over the threads, so
// that the very same phases run, and are tested, where there is no GPU.
//
// A Block has
//   index(), count()    this block, and how many share the work
//   shared<T>()         the block's shared memory as a T, its contents unknown
//   each(step)          step(thread) for every thread, then a barrier
//   PerThread<T>        a T per thread that lives across steps; at(thread)
//   set_bits(word, m)   *word |= m, atomically; word in global or shared memory
//   subtract(word, n)   *word -= n, atomically
//   copy16(to, from)    16 bytes from global to shared memory, zeros where from is null; complete
//                       after wait_for_copies
//   commit_copies()     closes a group of copies
//   wait_for_copies<n>()  until all but the last n groups of this thread are complete
//   Products<T>         the sums of a kRowTile x kColumnTile tile of products of elements T
#pragma once

#include <cstdint>

#include "../problem.h"
#include "d2export/rules.h"

#if defined(__CUDACC__)
#define D2EXPORT_PHASE __device__ __forceinline__
#define D2EXPORT_PRAGMA(text) _Pragma(#text)
#define D2EXPORT_UNROLL(count) D2EXPORT_PRAGMA(unroll count)
#else
#define D2EXPORT_PHASE inline
#define D2EXPORT_UNROLL(count)
#endif

namespace d2export::cuda {

inline constexpr std::int32_t kVector = 16;  // bytes that a thread moves at once
inline constexpr std::int32_t kPartsOfRow = kThreads / kRowsAtOnce;  // threads that share a row

// Elements as they lie in memory.
struct Half {
    std::uint16_t bits;
};
struct BFloat16 {
    std::uint16_t bits;
};

D2EXPORT_HOST_DEVICE float to_float(float value) noexcept { return value; }
D2EXPORT_HOST_DEVICE float to_float(Half value) noexcept {
    return rules::half_to_float(value.bits);
}
D2EXPORT_HOST_DEVICE float to_float(BFloat16 value) noexcept {
    return rules::bfloat16_to_float(value.bits);
}

D2EXPORT_HOST_DEVICE std::int32_t smaller(std::int32_t a, std::int32_t b) noexcept {
    return a < b ? a : b;
}

D2EXPORT_HOST_DEVICE std::int32_t larger(std::int32_t a, std::int32_t b) noexcept {
    return a < b ? b : a;
}

D2EXPORT_HOST_DEVICE std::int32_t divide_up(std::int32_t value, std::int32_t step) noexcept {
    return (value + step - 1) / step;
}

D2EXPORT_HOST_DEVICE std::int32_t ones(std::uint32_t word) noexcept {
#if defined(__CUDA_ARCH__)
    return __popc(word);
#else
    return __builtin_popcount(word);
#endif
}

// Row `token` of picture `b` of the features.
template <typename T>
D2EXPORT_HOST_DEVICE const T* feature_row(const Problem& problem, std::int32_t b,
                                          std::int32_t token) noexcept {
    const std::int64_t row = static_cast<std::int64_t>(b) * problem.shape.tokens + token;
    return static_cast<const T*>(problem.inputs.features) + row * problem.shape.channels;
}

}  // namespace d2export::cuda
