// CUDA's functions for memory: given and taken, copied and filled.

#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "stand_in.h"

using stand_in::attempted;
using stand_in::gpu;
using stand_in::put;
using stand_in::safe_state;
using stand_in::stream_state;

namespace {

// Pinned memory has an end, too; of other memory of the host nothing is known.
void check_host(std::uintptr_t address, std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    const auto after = gpu().pinned.upper_bound(address);
    if (after == gpu().pinned.begin()) return;
    const auto& [first, size] = *std::prev(after);
    if (address - first < size && bytes > size - (address - first)) {
        throw std::to_string(bytes) + " bytes behind " + std::to_string(address - first) +
            " of pinned memory, which has " + std::to_string(size);
    }
}

void copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
    auto& memory = gpu().memory;
    if (memory.owns(from) && memory.owns(to)) return memory.copy(from, to, bytes);
    if (memory.owns(from)) {
        check_host(to, bytes);
        return memory.read(from, bytes, reinterpret_cast<void*>(to));
    }
    check_host(from, bytes);
    if (memory.owns(to)) return memory.write(to, bytes, reinterpret_cast<const void*>(from));
    check_host(to, bytes);
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
}

CUresult put_copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    if (bytes == 0) return stream_state(stream);
    if (to == 0 || from == 0) return CUDA_ERROR_INVALID_VALUE;
    ++gpu().copies;
    return put(stream, [=] { return attempted("a copy of", [&] { copy(to, from, bytes); }); });
}

bool is_device(CUdeviceptr address) { return gpu().memory.owns(address); }
CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

long long environment_number(const char* name) {
    const char* const found = std::getenv(name);
    return found == nullptr ? 1 : std::atoll(found);
}

}  // namespace

extern "C" {

CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS) return found;
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    const long long number = ++gpu().allocations;
    if (refuses("memory") && number >= environment_number("STAND_IN_MEMORY")) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *address = gpu().memory.allocate(bytes);
    return *address != 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

// Releases even where an earlier failure is what it answers.
CUresult cuMemFree_v2(CUdeviceptr address) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS && !gpu().failed) return found;
    if (address == 0) return found;
    return gpu().memory.release(address) ? found : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemHostAlloc(void** address, std::size_t bytes, unsigned) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS) return found;
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = std::malloc(bytes);
    if (*address == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(*address, 0xA5, bytes);
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    gpu().pinned[address_of(*address)] = bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* address) {
    const CUresult found = safe_state();
    if (found != CUDA_SUCCESS && !gpu().failed) return found;
    const std::lock_guard<std::mutex> lock(gpu().mutex);
    if (gpu().pinned.erase(address_of(address)) == 0) return CUDA_ERROR_INVALID_VALUE;
    std::free(address);
    return found;
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    return put_copy(to, from, bytes, stream);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes,
                              CUstream stream) {
    if (is_device(address_of(from)) || !is_device(to)) return CUDA_ERROR_INVALID_VALUE;
    return put_copy(to, address_of(from), bytes, stream);
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
    if (is_device(address_of(to)) || !is_device(from)) return CUDA_ERROR_INVALID_VALUE;
    return put_copy(address_of(to), from, bytes, stream);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes,
                              CUstream stream) {
    if (!is_device(to) || !is_device(from)) return CUDA_ERROR_INVALID_VALUE;
    return put_copy(to, from, bytes, stream);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream) {
    if (bytes == 0) return stream_state(stream);
    return put(stream, [=] {
        return attempted("a fill of", [&] { gpu().memory.fill(to, bytes, value); });
    });
}
}
