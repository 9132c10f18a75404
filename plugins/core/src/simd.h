// One binary for every x86-64: the loader picks the widest variant that the processor has. Other
// architectures have their vectors in the baseline. Sanitizers run before the loader can choose.
#pragma once

#if defined(__x86_64__) && defined(__ELF__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define D2EXPORT_VECTOR_VARIANTS \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else  // which knows no levels yet
#define D2EXPORT_VECTOR_VARIANTS __attribute__((target_clones("avx512f", "fma", "default")))
#endif
#else
#define D2EXPORT_VECTOR_VARIANTS
#endif
