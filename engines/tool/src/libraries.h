// TensorRT's libraries, opened while the program runs: libnvinfer, its builder resource and the
// parser. Neither cuBLAS nor cuDNN is needed.
#pragma once

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "log.h"
#include "versions.h"

namespace d2export::tool {

class Libraries {
 public:
    // Opens libnvinfer of `folder`, or the one that the system finds. Throws a Failure if there is
    // none of the version that this was compiled for.
    explicit Libraries(std::optional<std::filesystem::path> folder);

    const Version& version() const { return version_; }
    nvinfer1::IPluginRegistry& registry() const { return *registry_; }

    std::unique_ptr<nvinfer1::IBuilder> builder(Log& log) const;
    std::unique_ptr<nvinfer1::IRuntime> runtime(Log& log) const;
    std::unique_ptr<nvonnxparser::IParser> parser(nvinfer1::INetworkDefinition& network,
                                                  Log& log) const;

 private:
    void* open(const std::string& name) const;

    std::optional<std::filesystem::path> folder_;
    void* nvinfer_;
    Version version_;
    nvinfer1::IPluginRegistry* registry_;
};

}  // namespace d2export::tool
