// Stands in for the backend where the headers of TensorRT or CUDA were missing.
#include <d2export/backend.h>
#include <d2export/error.h>

namespace d2export::runtime {

std::unique_ptr<Backend> tensorrt(const TensorRtOptions&) {
    throw misfit(
        "this d2export::runtime was built without TensorRT",
        "Build it with -DTENSORRT_INCLUDE_DIR=<folder of NvInferRuntime.h>, and the headers "
        "of the CUDA toolkit.");
}

}  // namespace d2export::runtime
