// Stands in for libnvinfer: notes what a builder is told, and runs engines that copy inputs.
//
// Such an engine is a text. "in NAME TYPE HOST MIN MAX" is an input, MIN and MAX once for each
// profile, as in 1x4, or - for a scalar; "out NAME TYPE INPUT" is an output that becomes a copy of
// the input. TYPE is a number of nvinfer1::DataType; HOST is 1 for a tensor on the host.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "acting.h"
#include "stand_in.h"

[[noreturn]] void missing(const char* function) noexcept {
    std::fprintf(stderr, "the stand-in has no %s\n", function);
    std::abort();
}

namespace {

using namespace nvinfer1;

struct HostMemoryFunctions : apiv::DefaultVHostMemory {
    explicit HostMemoryFunctions(std::string bytes) : bytes_(std::move(bytes)) {}
    void* data() const noexcept override { return const_cast<char*>(bytes_.data()); }
    std::size_t size() const noexcept override { return bytes_.size(); }
    std::string bytes_;
};
using HostMemory = Acting<IHostMemory, HostMemoryFunctions>;

// --- Building -----------------------------------------------------------------------------------

struct TensorFunctions : apiv::DefaultVTensor {
    explicit TensorFunctions(const char* name) : name_(name) {}
    const char* getName() const noexcept override { return name_; }
    const char* name_;
};
using Tensor = Acting<ITensor, TensorFunctions>;

struct LayerFunctions : apiv::DefaultVLayer {
    LayerFunctions(LayerType type, const char* output) : type_(type), output_(output) {}
    LayerType getType() const noexcept override { return type_; }
    std::int32_t getNbOutputs() const noexcept override { return 1; }
    ITensor* getOutput(std::int32_t) const noexcept override {
        return const_cast<Tensor*>(&output_);
    }
#if NV_TENSORRT_MAJOR < 10
    void setPrecision(DataType type) noexcept override {
        told(std::string("precision ") + output_.getName() + " " + number(type));
    }
    void setOutputType(std::int32_t index, DataType type) noexcept override {
        told(std::string("type ") + output_.getName() + " " + number(index) + " " + number(type));
    }
#endif
    LayerType type_;
    Tensor output_;
};

struct Layer : ILayer {
    Layer(LayerType type, const char* output) : functions(type, output) { mLayer = &functions; }
    LayerFunctions functions;
};

struct NetworkFunctions : apiv::DefaultVNetworkDefinition {
    std::int32_t getNbLayers() const noexcept override {
        return static_cast<std::int32_t>(layers_.size());
    }
    ILayer* getLayer(std::int32_t index) const noexcept override {
        return layers_[static_cast<std::size_t>(index)].get();
    }
    NetworkFunctions() {
        layers_.push_back(std::make_unique<Layer>(LayerType::kSHUFFLE, "image_embeds"));
        layers_.push_back(std::make_unique<Layer>(LayerType::kREDUCE, "norm"));
        layers_.push_back(std::make_unique<Layer>(LayerType::kGATHER, "ids"));
        layers_.push_back(std::make_unique<Layer>(LayerType::kCONSTANT, "norm"));
        layers_.push_back(std::make_unique<Layer>(LayerType::kPLUGIN_V2, "norm"));
    }
    std::vector<std::unique_ptr<Layer>> layers_;
};
using Network = Acting<INetworkDefinition, NetworkFunctions>;

struct ProfileFunctions : apiv::DefaultVOptimizationProfile {
#if NV_TENSORRT_MAJOR < 10
    bool setDimensions(const char* input, OptProfileSelector which, Dims dims) noexcept override {
#else
    bool setDimensions(const char* input, OptProfileSelector which,
                       const Dims& dims) noexcept override {
#endif
        const char* const names[] = {"min", "opt", "max"};
        shapes_[input] += std::string(" ") + names[static_cast<int>(which)] + " " + text(dims);
        return true;
    }
    std::map<std::string, std::string> shapes_;
};
using Profile = Acting<IOptimizationProfile, ProfileFunctions>;

struct TimingCacheFunctions : apiv::DefaultVTimingCache {
    explicit TimingCacheFunctions(std::string bytes) : bytes_(std::move(bytes)) {}
    IHostMemory* serialize() const noexcept override { return new HostMemory(bytes_ + "timings;"); }
    std::string bytes_;
};
using TimingCache = Acting<ITimingCache, TimingCacheFunctions>;

struct ConfigFunctions : apiv::DefaultVBuilderConfig {
    void setFlag(BuilderFlag flag) noexcept override { told("flag " + number(flag)); }
    void clearFlag(BuilderFlag flag) noexcept override { told("no flag " + number(flag)); }
    bool setTacticSources(TacticSources sources) noexcept override {
        told("tactics " + number(sources));
        return true;
    }
    void setMemoryPoolLimit(MemoryPoolType pool, std::size_t bytes) noexcept override {
        told("pool " + number(pool) + " " + number(bytes));
    }
    void setBuilderOptimizationLevel(std::int32_t level) noexcept override {
        told("level " + number(level));
    }
    void setHardwareCompatibilityLevel(HardwareCompatibilityLevel level) noexcept override {
        told("hardware " + number(level));
    }
    void setPluginsToSerialize(const char* const* paths, std::int32_t count) noexcept override {
        for (int index = 0; index < count; ++index) told(std::string("serialize ") + paths[index]);
    }
    std::int32_t addOptimizationProfile(const IOptimizationProfile* profile) noexcept override {
        if (refuses("profile")) return -1;
        told("profile " + number(profiles_));
        for (const auto& [input, shape] :
             static_cast<const Profile*>(profile)->functions().shapes_) {
            told("  " + input + shape);
        }
        return profiles_++;
    }
    ITimingCache* createTimingCache(const void* bytes, std::size_t size) const noexcept override {
        return new TimingCache(std::string(static_cast<const char*>(bytes), size));
    }
    bool setTimingCache(const ITimingCache& cache, bool ignore) noexcept override {
        told(std::string("timings, mismatches ") + (ignore ? "ignored" : "refused"));
        cache_ = &cache;
        return !refuses("timings");
    }
    const ITimingCache* getTimingCache() const noexcept override { return cache_; }
#if NV_TENSORRT_MAJOR >= 10
    void setProgressMonitor(IProgressMonitor* monitor) noexcept override { monitor_ = monitor; }
    IProgressMonitor* monitor_ = nullptr;
#endif
    const ITimingCache* cache_ = nullptr;
    std::int32_t profiles_ = 0;
};
using Config = Acting<IBuilderConfig, ConfigFunctions>;

struct BuilderFunctions : apiv::DefaultVBuilder {
    explicit BuilderFunctions(ILogger& logger) : logger_(logger) {}
    INetworkDefinition* createNetworkV2(NetworkDefinitionCreationFlags flags) noexcept override {
        told("network " + number(flags));
        return new Network();
    }
    IBuilderConfig* createBuilderConfig() noexcept override { return new Config(); }
    IOptimizationProfile* createOptimizationProfile() noexcept override {
        profiles_.push_back(std::make_unique<Profile>());
        return profiles_.back().get();
    }
    IHostMemory* buildSerializedNetwork(INetworkDefinition&,
                                        IBuilderConfig& config) noexcept override {
        told("build");
        logger_.log(ILogger::Severity::kWARNING, "a warning of the builder");
        logger_.log(ILogger::Severity::kINFO, "something the builder says");
#if NV_TENSORRT_MAJOR >= 10
        IProgressMonitor* const monitor = static_cast<const Config&>(config).functions().monitor_;
        if (monitor != nullptr) {
            monitor->phaseStart("Building Engine", nullptr, 8);
            monitor->phaseStart("Tactics", "Building Engine", 100);
            for (int step = 0; step < 8; ++step) monitor->stepComplete("Building Engine", step);
            monitor->phaseFinish("Tactics");
            monitor->phaseFinish("Building Engine");
        }
#else
        static_cast<void>(config);
#endif
        if (refuses("build")) {
            logger_.log(ILogger::Severity::kERROR, "no kernel fits node 3");
            return nullptr;
        }
        return new HostMemory("engine of " + std::to_string(NV_TENSORRT_MAJOR));
    }
    ILogger& logger_;
    std::vector<std::unique_ptr<Profile>> profiles_;
};
using Builder = Acting<IBuilder, BuilderFunctions>;

struct Registry : DefaultIPluginRegistry {
    PluginLibraryHandle loadLibrary(const AsciiChar* path) noexcept override {
        told(std::string("plugin ") + path);
        loaded_ = !refuses("plugin");
        return loaded_ ? this : nullptr;
    }
    void* found(const char* name, const char* version, const char* name_space) {
        const bool known = loaded_ && std::string(name) == "D2Prune" &&
                           std::string(version) == "1" && std::string(name_space) == "d2export";
        return known ? this : nullptr;  // nobody calls it
    }
#if NV_TENSORRT_MAJOR < 10
    IPluginCreator* getPluginCreator(const AsciiChar* name, const AsciiChar* version,
                                     const AsciiChar* name_space) noexcept override {
        return static_cast<IPluginCreator*>(found(name, version, name_space));
    }
#else
    IPluginCreatorInterface* getCreator(const AsciiChar* name, const AsciiChar* version,
                                        const AsciiChar* name_space) noexcept override {
        return static_cast<IPluginCreatorInterface*>(found(name, version, name_space));
    }
#endif
    bool loaded_ = false;
};

// --- Running ------------------------------------------------------------------------------------

struct Binding {
    bool is_input = false, on_host = false;
    std::string name, source;
    DataType type{};
    std::vector<Dims> min, max;  // by profile
};

std::size_t item_size(DataType type) {
    const std::size_t sizes[] = {4, 2, 1, 4, 1, 1, 1, 2, 8};
    return sizes[static_cast<std::size_t>(type)];
}

std::vector<Binding> bindings_from(const std::string& engine) {
    std::vector<Binding> found;
    std::istringstream lines(engine);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string kind, low, high;
        int type = 0;
        Binding binding;
        words >> kind >> binding.name >> type;
        binding.type = static_cast<DataType>(type);
        binding.is_input = kind == "in";
        if (binding.is_input) {
            words >> binding.on_host;
            while (words >> low >> high) {
                binding.min.push_back(dims_from(low));
                binding.max.push_back(dims_from(high));
            }
        } else {
            words >> binding.source;
        }
        found.push_back(binding);
    }
    return found;
}

const Binding& named(const std::vector<Binding>& bindings, const std::string& name) {
    return *std::find_if(bindings.begin(), bindings.end(),
                         [&](const Binding& binding) { return binding.name == name; });
}

struct ContextFunctions : apiv::DefaultVExecutionContext {
    explicit ContextFunctions(const std::vector<Binding>& bindings) : bindings_(bindings) {}
    bool setOptimizationProfileAsync(std::int32_t index, cudaStream_t) noexcept override {
        told("runs profile " + number(index));
        return true;
    }
    bool setInputShape(const char* name, const Dims& dims) noexcept override {
        shapes_[name] = dims;
        return true;
    }
    Dims getTensorShape(const char* name) const noexcept override {
        const Binding& binding = named(bindings_, name);
        return shapes_.at(binding.is_input ? name : binding.source);
    }
    bool setTensorAddress(const char* name, void* address) noexcept override {
        addresses_[name] = address;
        return address != nullptr;
    }
    void setProfiler(IProfiler* profiler) noexcept override { profiler_ = profiler; }
    bool enqueueV3(cudaStream_t) noexcept override {
        told("enqueue");
        if (refuses("run")) return false;
        for (const Binding& binding : bindings_) {
            if (binding.is_input) continue;
            std::size_t bytes = item_size(binding.type);
            const Dims dims = getTensorShape(binding.name.c_str());
            for (int axis = 0; axis < dims.nbDims; ++axis) {
                bytes *= static_cast<std::size_t>(dims.d[axis]);
            }
            std::memcpy(addresses_.at(binding.name), addresses_.at(binding.source), bytes);
        }
        if (profiler_ != nullptr) {
            profiler_->reportLayerTime("D2Prune", 0.25f);
            profiler_->reportLayerTime("rest", 2.0f);
        }
        return true;
    }
    std::vector<Binding> bindings_;
    std::map<std::string, Dims> shapes_;
    std::map<std::string, void*> addresses_;
    IProfiler* profiler_ = nullptr;
};
using Context = Acting<IExecutionContext, ContextFunctions>;

struct EngineFunctions : apiv::DefaultVCudaEngine {
    explicit EngineFunctions(const std::string& engine) : bindings_(bindings_from(engine)) {}
    std::int32_t getNbOptimizationProfiles() const noexcept override {
        return static_cast<std::int32_t>(bindings_.at(0).min.size());
    }
    std::int32_t getNbIOTensors() const noexcept override {
        return static_cast<std::int32_t>(bindings_.size());
    }
    const char* getIOTensorName(std::int32_t index) const noexcept override {
        return bindings_[static_cast<std::size_t>(index)].name.c_str();
    }
    TensorIOMode getTensorIOMode(const char* name) const noexcept override {
        return named(bindings_, name).is_input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(const char* name) const noexcept override {
        return named(bindings_, name).type;
    }
    TensorLocation getTensorLocation(const char* name) const noexcept override {
        return named(bindings_, name).on_host ? TensorLocation::kHOST : TensorLocation::kDEVICE;
    }
    Dims getProfileShape(const char* name, std::int32_t profile,
                         OptProfileSelector which) const noexcept override {
        const Binding& binding = named(bindings_, name);
        const auto& dims = which == OptProfileSelector::kMIN ? binding.min : binding.max;
        return dims[static_cast<std::size_t>(profile)];
    }
#if NV_TENSORRT_MAJOR < 10
    std::size_t getDeviceMemorySize() const noexcept override { return 4096; }
    IExecutionContext* createExecutionContext() noexcept override { return new Context(bindings_); }
#else
    std::int64_t getDeviceMemorySizeV2() const noexcept override { return 4096; }
    IExecutionContext* createExecutionContext(
        ExecutionContextAllocationStrategy) noexcept override {
        return new Context(bindings_);
    }
#endif
    std::vector<Binding> bindings_;
};
using Engine = Acting<ICudaEngine, EngineFunctions>;

struct RuntimeFunctions : apiv::DefaultVRuntime {
    explicit RuntimeFunctions(ILogger& logger) : logger_(logger) {}
    void setEngineHostCodeAllowed(bool allowed) noexcept override {
        told(std::string("host code ") + (allowed ? "allowed" : "refused"));
    }
#if NV_TENSORRT_MAJOR < 10
    ICudaEngine* deserializeCudaEngine(const void* bytes, std::size_t size,
                                       IPluginFactory*) noexcept override {
#else
    ICudaEngine* deserializeCudaEngine(const void* bytes, std::size_t size) noexcept override {
#endif
        if (refuses("engine")) {
            logger_.log(ILogger::Severity::kERROR, "the engine is of another GPU");
            return nullptr;
        }
        return new Engine(std::string(static_cast<const char*>(bytes), size));
    }
    ILogger& logger_;
};
using Runtime = Acting<IRuntime, RuntimeFunctions>;

}  // namespace

// --- What the library exports
// ---------------------------------------------------------------------

extern "C" {

std::int32_t getInferLibVersion() noexcept {
    const char* const claimed = std::getenv("STAND_IN_VERSION");
    return claimed != nullptr ? std::atoi(claimed) : static_cast<std::int32_t>(NV_TENSORRT_VERSION);
}

nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
    static Registry registry;
    return &registry;
}

void* createInferBuilder_INTERNAL(void* logger, std::int32_t version) noexcept {
    if (refuses("builder") || version != static_cast<std::int32_t>(NV_TENSORRT_VERSION)) {
        static_cast<ILogger*>(logger)->log(ILogger::Severity::kERROR, "CUDA is too old");
        return nullptr;
    }
    return static_cast<IBuilder*>(new Builder(*static_cast<ILogger*>(logger)));
}

void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept {
    if (version != static_cast<std::int32_t>(NV_TENSORRT_VERSION)) return nullptr;
    return static_cast<IRuntime*>(new Runtime(*static_cast<ILogger*>(logger)));
}
}
