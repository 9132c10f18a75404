// CUDA's functions for the device, its context and errors.

#include <array>
#include <cstdio>
#include <cstdlib>

#include "driver.h"
#include "stand_in.h"

using stand_in::contexts;
using stand_in::gpu;
using stand_in::state;

namespace {

std::array<int, 2> compute_capability() {
    const char* const claimed = std::getenv("STAND_IN_COMPUTE");
    std::array<int, 2> found{8, 7};
    if (claimed != nullptr) std::sscanf(claimed, "%d.%d", &found[0], &found[1]);
    return found;
}

CUresult device_state(CUdevice device) {
    if (!gpu().initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned) {
    if (refuses("gpu")) return CUDA_ERROR_NO_DEVICE;
    gpu().initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    *count = 1;
    return device_state(0);
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = ordinal;
    return device_state(ordinal);
}

CUresult cuDeviceGetName(char* name, int room, CUdevice device) {
    std::snprintf(name, static_cast<std::size_t>(room), "Stand-in GPU");
    return device_state(device);
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
            *value = compute_capability()[0];
            return device_state(device);
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
            *value = compute_capability()[1];
            return device_state(device);
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
            *value = 1;
            return device_state(device);
        case CU_DEVICE_ATTRIBUTE_INTEGRATED:
            *value = 0;
            return device_state(device);
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
    *bytes = stand_in::DeviceMemory::kTotal;
    return device_state(device);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    const CUresult found = device_state(device);
    if (found != CUDA_SUCCESS) return found;
    ++gpu().primary.retained;
    *context = &gpu().primary;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    const CUresult found = device_state(device);
    if (found != CUDA_SUCCESS) return found;
    if (gpu().primary.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    --gpu().primary.retained;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
    if (context != &gpu().primary || context->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    contexts().push_back(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    if (contexts().empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context != nullptr) *context = contexts().back();
    contexts().pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
    *device = 0;
    return contexts().empty() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult result, const char** name) {
#define STAND_IN_NAME(code) \
    case code:              \
        *name = #code;      \
        return CUDA_SUCCESS
    switch (result) {
        STAND_IN_NAME(CUDA_SUCCESS);
        STAND_IN_NAME(CUDA_ERROR_INVALID_VALUE);
        STAND_IN_NAME(CUDA_ERROR_OUT_OF_MEMORY);
        STAND_IN_NAME(CUDA_ERROR_NOT_INITIALIZED);
        STAND_IN_NAME(CUDA_ERROR_NO_DEVICE);
        STAND_IN_NAME(CUDA_ERROR_INVALID_DEVICE);
        STAND_IN_NAME(CUDA_ERROR_INVALID_CONTEXT);
        STAND_IN_NAME(CUDA_ERROR_INVALID_HANDLE);
        STAND_IN_NAME(CUDA_ERROR_ILLEGAL_STATE);
        STAND_IN_NAME(CUDA_ERROR_ILLEGAL_ADDRESS);
        STAND_IN_NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        STAND_IN_NAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        STAND_IN_NAME(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
        default:
            *name = nullptr;
            return CUDA_ERROR_INVALID_VALUE;
    }
#undef STAND_IN_NAME
}

CUresult cuGetErrorString(CUresult result, const char** text) {
    const CUresult found = cuGetErrorName(result, text);
    if (found == CUDA_SUCCESS) *text = "the stand-in refused it";
    return found;
}
}
