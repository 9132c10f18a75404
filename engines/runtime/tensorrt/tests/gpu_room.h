// Memory that TensorRT takes for itself: of the program's allocator if it has one, else of CUDA.
#pragma once

#include <NvInferRuntime.h>
#include <cuda.h>

#include <cstddef>

namespace stand_in {

class GpuRoom {
 public:
    // Throws std::string: there is none.
    GpuRoom(nvinfer1::IGpuAllocator* allocator, std::size_t bytes);
    ~GpuRoom();
    GpuRoom(const GpuRoom&) = delete;
    GpuRoom& operator=(const GpuRoom&) = delete;

    CUdeviceptr address() const { return address_; }

 private:
    nvinfer1::IGpuAllocator* const allocator_;
    CUdeviceptr address_ = 0;
};

}  // namespace stand_in
