// All that differs between TensorRT 8.6, 10 and 11. No other file knows which one it is compiled
// for.
#pragma once

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace d2export::tool {

using Version = std::array<std::int32_t, 3>;  // major, minor, patch

extern const Version kHeaders;  // those that this was compiled with
std::string text_of(const Version& version);
Version version_from(std::int32_t number);      // as getInferLibVersion() answers
Version version_from(const std::string& text);  // "10.3"; what is missing is 0

// The number of a name of NvInfer.h without its k, such as "BuilderFlag", "TF32". Throws a Failure
// that says this TensorRT has none.
std::int32_t number_of(const std::string& enumeration, const std::string& name);

// Whether the library must come with libnvinfer_plugin, or what stands in for it.
extern const bool kParserNeedsPluginLibrary;

bool has_creator(nvinfer1::IPluginRegistry& registry, const std::string& name,
                 const std::string& version, const std::string& name_space);

// Where in the graph, and what.
std::string text_of(const nvonnxparser::IParserError& error);

// Tells each layer to compute in the types of the ONNX graph ("float32" or "float16" by name of a
// value). Throws a Failure where TensorRT takes no such orders.
void pin_types(nvinfer1::INetworkDefinition& network,
               const std::map<std::string, std::string>& types);

// Shows how far the builder is, as long as it lives.
class Progress {
 public:
    virtual ~Progress() = default;
};

// Throws a Failure where TensorRT does not tell.
std::unique_ptr<Progress> watch(nvinfer1::IBuilderConfig& config);

// How elements of a type look in memory and in a .npy file.
struct Element {
    const char* name;   // as in ONNX and numpy
    const char* descr;  // of a .npy file
    std::size_t bytes;
};

// Throws a Failure for types that no .npy file holds.
Element element_of(nvinfer1::DataType type);

std::int64_t device_memory(const nvinfer1::ICudaEngine& engine);

}  // namespace d2export::tool
