// What a plugin finds behind ILoggerFinder: a TensorRT library with a version
// and a logger.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <string>

#define D2EXPORT_STAND_IN __attribute__((visibility("default")))

namespace d2export::tests {

// It lies in the stand-in's library, as TensorRT's lies in libnvinfer.
D2EXPORT_STAND_IN nvinfer1::ILoggerFinder *logger_finder();

// What getInferLibVersion() answers from now on; that of our headers at first.
D2EXPORT_STAND_IN void claim_version(std::int32_t version);

// The errors logged since the last call.
D2EXPORT_STAND_IN std::string take_errors();

}  // namespace d2export::tests
