#include "build.h"

namespace d2export::python {

// The choice that the loader made among the variants in the core's simd.h. Compilers that build no
// variants cannot ask for them either.
const char* vectors() noexcept {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") != 0 ? "avx512f"
           : __builtin_cpu_supports("fma") != 0   ? "fma"
                                                  : "x86-64";
#elif defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4") != 0) {
        return "x86-64-v4";
    }
    if (__builtin_cpu_supports("x86-64-v3") != 0) {
        return "x86-64-v3";
    }
    return "x86-64";
#elif defined(__x86_64__)
    return "x86-64";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "portable";
#endif
}

}  // namespace d2export::python
