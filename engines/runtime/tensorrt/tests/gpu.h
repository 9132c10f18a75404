// What the libcuda.so.1 of the tests has besides CUDA's functions: its libnvinfer puts kernels on
// streams with it, and tests read its counters.
#pragma once

#include <cuda.h>

#include <cstddef>

extern "C" {

// Puts a kernel on a stream, or into the graph that the stream records. `work` runs when the stream
// is waited for, and answers whether it could; `dispose` is called once, when it will run no more.
// Answers a CUresult; work that is not taken is disposed of.
int stand_in_launch(CUstream stream, int (*work)(void*), void (*dispose)(void*), void* user);

int stand_in_capturing(CUstream stream);

// Whether all these bytes lie in one living allocation of the GPU.
int stand_in_has(CUdeviceptr address, std::size_t bytes);

// For kernels: copy from and to the GPU's memory; false, told on stderr, where there is none.
int stand_in_read(CUdeviceptr address, std::size_t bytes, void* to);
int stand_in_write(CUdeviceptr address, std::size_t bytes, const void* from);

// Says why something failed, on stderr; all calls of CUDA fail from then on.
void stand_in_fails(const char* why);

// `allocations`, `device bytes`, `pinned bytes`, `copies`, `launches`, `graph launches`, `streams`,
// `graphs` or `contexts`; -1 for another name. The first and the three before `streams` only grow.
long long stand_in_count(const char* name);
}
