// Stands in for the backend where ONNX Runtime's header was missing.
#include <d2export/backend.h>
#include <d2export/error.h>

namespace d2export::runtime {

std::unique_ptr<Backend> onnx_runtime(const OnnxRuntimeOptions&) {
    throw misfit("this d2export::runtime was built without ONNX Runtime",
                 "Build it with -DORT_INCLUDE_DIR=<folder of onnxruntime_c_api.h>, which is in a "
                 "release archive of ONNX Runtime for C.");
}

}  // namespace d2export::runtime
