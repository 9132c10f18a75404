// The state of CUDA's driver as libcuda.so.1 of the tests has it, and what its functions check.
// What a driver may refuse is refused: memory that is not there, calls without a current context,
// what may not be recorded. The first failure is that of all later calls.
//
//   STAND_IN_REFUSES   gpu: there is none; capture: nothing is recorded; memory: none is given from
//   STAND_IN_MEMORY    that allocation on, counted from 1
//   STAND_IN_COMPUTE   the compute capability; default: 8.7
//   STAND_IN_TOLD      file that gets a line with what is still there when the process ends
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "device_memory.h"
#include "streams.h"

struct CUctx_st {
    std::atomic<int> retained{0};
};

namespace stand_in {

struct Gpu {
    DeviceMemory memory;
    Captures captures;
    CUctx_st primary;
    std::atomic<bool> initialised{false}, failed{false};
    std::atomic<long long> allocations{0}, copies{0}, launches{0}, graph_launches{0}, graphs{0};

    std::mutex mutex;  // for those below
    std::set<CUstream> streams;
    std::map<std::uintptr_t, std::size_t> pinned;
};

Gpu& gpu();

// The contexts of this thread, the current one last.
std::vector<CUcontext>& contexts();

// Says why, on stderr.
void fail(const std::string& why);

// Whether a call may be made at all.
CUresult state();
// The same of calls that are unsafe while a stream records.
CUresult safe_state();
CUresult stream_state(CUstream stream);

// Puts work on a stream, or into what it records.
CUresult put(CUstream stream, const Works& works);
CUresult put(CUstream stream, Work work);

// Runs what throws std::string where it cannot: the GPU fails then.
template <typename Attempt>
CUresult attempted(const char* what, const Attempt& attempt) {
    try {
        attempt();
        return CUDA_SUCCESS;
    } catch (const std::string& why) {
        fail(std::string(what) + " " + why);
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
}

}  // namespace stand_in
