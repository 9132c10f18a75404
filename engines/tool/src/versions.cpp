#include "versions.h"

#include <cstdio>

#include "failure.h"
#include "log.h"

namespace d2export::tool {

const Version kHeaders{NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH};

std::string text_of(const Version& version) {
    return std::to_string(version[0]) + "." + std::to_string(version[1]) + "." +
           std::to_string(version[2]);
}

Version version_from(std::int32_t number) {
    // 8601 is 8.6.1; 100300 is 10.3.0.
    const std::int32_t major = number >= 100000 ? 10000 : 1000;
    return {number / major, number % major / 100, number % 100};
}

Version version_from(const std::string& text) {
    Version version{};
    std::sscanf(text.c_str(), "%d.%d.%d", &version[0], &version[1], &version[2]);
    return version;
}

namespace {

std::string ours() { return "TensorRT " + text_of(kHeaders); }

struct Name {
    const char* enumeration;
    const char* name;
    std::int32_t number;
};

#define D2EXPORT_NAME(ENUM, NAME) \
    Name { #ENUM, #NAME, std::int32_t(nvinfer1::ENUM::k##NAME) }

// What plans mention (d2export/engine/tensorrt_api.py). Numbers moved between versions.
const Name kNames[] = {
#if NV_TENSORRT_MAJOR < 10
    D2EXPORT_NAME(NetworkDefinitionCreationFlag, EXPLICIT_BATCH),
    D2EXPORT_NAME(BuilderFlag, FP16),
    D2EXPORT_NAME(BuilderFlag, INT8),
    D2EXPORT_NAME(BuilderFlag, OBEY_PRECISION_CONSTRAINTS),
#elif NV_TENSORRT_MAJOR < 11
    D2EXPORT_NAME(NetworkDefinitionCreationFlag, STRONGLY_TYPED),
#endif
    D2EXPORT_NAME(BuilderFlag, TF32),
    D2EXPORT_NAME(BuilderFlag, VERSION_COMPATIBLE),
    D2EXPORT_NAME(TacticSource, EDGE_MASK_CONVOLUTIONS),
    D2EXPORT_NAME(TacticSource, JIT_CONVOLUTIONS),
    D2EXPORT_NAME(MemoryPoolType, WORKSPACE),
    D2EXPORT_NAME(HardwareCompatibilityLevel, NONE),
    D2EXPORT_NAME(HardwareCompatibilityLevel, AMPERE_PLUS),
};

#undef D2EXPORT_NAME

}  // namespace

std::int32_t number_of(const std::string& enumeration, const std::string& name) {
    for (const Name& known : kNames) {
        if (enumeration == known.enumeration && name == known.name) return known.number;
    }
    throw mismatch(ours() + " has no " + enumeration + "." + name + ", which the plan needs",
                   "Plan anew for this TensorRT: d2export build BUNDLE --target NAME.");
}

#if NV_TENSORRT_MAJOR < 10
const bool kParserNeedsPluginLibrary = true;
#else
const bool kParserNeedsPluginLibrary = false;
#endif

bool has_creator(nvinfer1::IPluginRegistry& registry, const std::string& name,
                 const std::string& version, const std::string& name_space) {
#if NV_TENSORRT_MAJOR < 10
    return registry.getPluginCreator(name.c_str(), version.c_str(), name_space.c_str()) != nullptr;
#else
    return registry.getCreator(name.c_str(), version.c_str(), name_space.c_str()) != nullptr;
#endif
}

std::string text_of(const nvonnxparser::IParserError& error) {
    std::string at = "node " + std::to_string(error.node());
#if NV_TENSORRT_MAJOR >= 10
    at += std::string(" '") + error.nodeName() + "' (" + error.nodeOperator() + ")";
#endif
    return at + ": " + error.desc() + " [" + error.func() + ":" + std::to_string(error.line()) +
           "]";
}

#if NV_TENSORRT_MAJOR < 10

void pin_types(nvinfer1::INetworkDefinition& network,
               const std::map<std::string, std::string>& types) {
    using nvinfer1::LayerType;
    for (std::int32_t index = 0; index < network.getNbLayers(); ++index) {
        nvinfer1::ILayer& layer = *network.getLayer(index);
        const LayerType kind = layer.getType();
        // Types of these are not theirs to choose.
        if (kind == LayerType::kCONSTANT || kind == LayerType::kSHAPE || kind == LayerType::kCAST ||
            kind == LayerType::kPLUGIN_V2) {
            continue;
        }
        for (std::int32_t output = 0; output < layer.getNbOutputs(); ++output) {
            const auto found = types.find(layer.getOutput(output)->getName());
            if (found == types.end()) continue;
            const auto type =
                found->second == "float16" ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
            layer.setPrecision(type);
            layer.setOutputType(output, type);
        }
    }
}

std::unique_ptr<Progress> watch(nvinfer1::IBuilderConfig&) {
    throw mismatch(ours() + " has no IProgressMonitor, which the plan needs",
                   "Plan anew for this TensorRT: d2export build BUNDLE --target NAME.");
}

#else

void pin_types(nvinfer1::INetworkDefinition&, const std::map<std::string, std::string>&) {
    throw mismatch(ours() +
                       " takes the types of the graph, and no orders about layers, which the "
                       "plan has",
                   "Plan anew for this TensorRT: d2export build BUNDLE --target NAME.");
}

namespace {

// Notes the builder's main phases, and each quarter of them.
class Monitor final : public nvinfer1::IProgressMonitor, public Progress {
 public:
    explicit Monitor(nvinfer1::IBuilderConfig& config) : config_(config) {
        config_.setProgressMonitor(this);
    }
    ~Monitor() override { config_.setProgressMonitor(nullptr); }

    void phaseStart(const char* phase, const char* parent, std::int32_t steps) noexcept override {
        if (parent != nullptr) return;
        steps_[phase] = steps;
        Log::note(std::string("  TensorRT: ") + phase);
    }

    bool stepComplete(const char* phase, std::int32_t step) noexcept override {
        constexpr std::int64_t kSaid = 4;
        const auto found = steps_.find(phase);
        const std::int64_t steps = found == steps_.end() ? 0 : found->second;
        if (steps >= kSaid && (step + 1) * kSaid / steps > step * kSaid / steps) {
            Log::note("  TensorRT: " + found->first + ": " + std::to_string(step + 1) + " of " +
                      std::to_string(steps));
        }
        return true;  // go on
    }

    void phaseFinish(const char* phase) noexcept override { steps_.erase(phase); }

 private:
    nvinfer1::IBuilderConfig& config_;
    std::map<std::string, std::int32_t> steps_;
};

}  // namespace

std::unique_ptr<Progress> watch(nvinfer1::IBuilderConfig& config) {
    return std::make_unique<Monitor>(config);
}

#endif

Element element_of(nvinfer1::DataType type) {
    using nvinfer1::DataType;
    switch (type) {
        case DataType::kFLOAT:
            return {"float32", "<f4", 4};
        case DataType::kHALF:
            return {"float16", "<f2", 2};
        case DataType::kINT8:
            return {"int8", "|i1", 1};
        case DataType::kINT32:
            return {"int32", "<i4", 4};
        case DataType::kBOOL:
            return {"bool", "|b1", 1};
        case DataType::kUINT8:
            return {"uint8", "|u1", 1};
#if NV_TENSORRT_MAJOR >= 10
        case DataType::kINT64:
            return {"int64", "<i8", 8};
        case DataType::kBF16:
            return {"bfloat16", "<V2", 2};  // as ml_dtypes writes it: numpy has no such type
#endif
        default:
            throw mismatch("the engine has a tensor of DataType " +
                               std::to_string(static_cast<std::int32_t>(type)) +
                               ", which no .npy file holds",
                           "Export the graph with inputs and outputs of other types.");
    }
}

std::int64_t device_memory(const nvinfer1::ICudaEngine& engine) {
#if NV_TENSORRT_MAJOR < 10
    return static_cast<std::int64_t>(engine.getDeviceMemorySize());
#else
    return engine.getDeviceMemorySizeV2();
#endif
}

}  // namespace d2export::tool
