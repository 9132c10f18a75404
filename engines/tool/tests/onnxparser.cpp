// Stands in for libnvonnxparser: parses nothing, and says that it could not if a test wants that.

#include <cstdio>
#include <cstdlib>

#include "defaults.h"
#include "stand_in.h"

[[noreturn]] void missing(const char* function) noexcept {
    std::fprintf(stderr, "the stand-in has no %s\n", function);
    std::abort();
}

// As in TensorRT 8.6, whose parser calls it; it is in libnvinfer_plugin.so.8.
#if NV_TENSORRT_MAJOR < 10
extern "C" bool initLibNvInferPlugins(void* logger, const char* name_space);
#endif

namespace {

class Error final : public nvonnxparser::DefaultIParserError {
 public:
    nvonnxparser::ErrorCode code() const noexcept override {
        return nvonnxparser::ErrorCode::kUNSUPPORTED_NODE;
    }
    const char* desc() const noexcept override { return "no importer for Loop"; }
    const char* file() const noexcept override { return "ModelImporter.cpp"; }
    int line() const noexcept override { return 725; }
    const char* func() const noexcept override { return "parseNode"; }
    int node() const noexcept override { return 3; }
#if NV_TENSORRT_MAJOR >= 10
    const char* nodeName() const noexcept override { return "prune/loop"; }
    const char* nodeOperator() const noexcept override { return "Loop"; }
#endif
};

class Parser final : public nvonnxparser::DefaultIParser {
 public:
    bool parseFromFile(const char* path, int) noexcept override {
        told(std::string("parse ") + path);
        return !refuses("parser");
    }
    int getNbErrors() const noexcept override { return 1; }
    const nvonnxparser::IParserError* getError(int) const noexcept override { return &error_; }

 private:
    Error error_;
};

}  // namespace

extern "C" void* createNvOnnxParser_INTERNAL(void* network, void* logger, int version) noexcept {
#if NV_TENSORRT_MAJOR < 10
    if (!initLibNvInferPlugins(logger, "")) return nullptr;
#endif
    if (network == nullptr || logger == nullptr || version != NV_ONNX_PARSER_VERSION)
        return nullptr;
    return static_cast<nvonnxparser::IParser*>(new Parser());
}
