// What TensorRT says. It keeps the first logger it is given, so there is one, until the process
// ends.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace d2export::runtime::trt {

class Log final : public nvinfer1::ILogger {
 public:
    static Log& only();

    void log(Severity severity, const char* message) noexcept override;

    // Forgets what was said on this thread.
    void clear() noexcept;
    // ": " and the first error of this thread since clear(), or nothing: the first is the cause.
    std::string why() const;
};

}  // namespace d2export::runtime::trt
