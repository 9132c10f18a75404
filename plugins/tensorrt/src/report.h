// Messages, through TensorRT's logger.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace d2export::tensorrt {

// Where the loading program's logger is found. TensorRT calls it once, when it loads the library.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// Logs an error; to stderr where TensorRT gave no logger, or one of another major version.
void report(const std::string& message) noexcept;

}  // namespace d2export::tensorrt
