// What d2run is told.
#pragma once

#include <d2export/runtime.h>

#include <string>
#include <vector>

namespace d2run {

struct Arguments {
    std::string bundle;
    std::vector<std::string> images;
    d2export::runtime::Request request;
    d2export::runtime::OnnxRuntimeOptions onnx_runtime;
    d2export::runtime::TensorRtOptions tensorrt;
    bool engines = false;
    int repeat = 1;
    bool null_backend = false;
    bool manifest_only = false;
    bool json = false;
    bool help = false;
};

extern const char* const kUsage;

// Throws an Error that names the argument and what was expected.
Arguments read(int count, char** arguments);

}  // namespace d2run
