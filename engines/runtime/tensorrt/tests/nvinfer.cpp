// Stands in for libnvinfer where engines are run: an engine is a text, see engine_text.h, and
// computes what its ONNX graph computes.
//
//   STAND_IN_REFUSES   engine, context, run or plugin
//   STAND_IN_VERSION   what getInferLibVersion answers; default: that of the headers
//   STAND_IN_TOLD      file that gets a line for each plugin, profile and run

#include <unistd.h>

#include <cstring>

#include "context.h"
#include "stand_in.h"

[[noreturn]] void missing(const char* function) noexcept {
    std::fprintf(stderr, "the stand-in has no %s\n", function);
    std::abort();
}

namespace {

using namespace nvinfer1;
using stand_in::Computation;
using stand_in::Context;
using stand_in::EngineText;
using stand_in::Opened;
using stand_in::Tensor;

constexpr std::size_t kWeights = 4096;  // bytes that an engine takes

[[noreturn]] void misused(const char* what) {
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

struct Registry : DefaultIPluginRegistry {
    PluginLibraryHandle loadLibrary(const AsciiChar* path) noexcept override {
        told(std::string("plugin ") + path);
        return refuses("plugin") || access(path, R_OK) != 0 ? nullptr : this;
    }
    void deregisterLibrary(PluginLibraryHandle handle) noexcept override {
        if (handle != this) misused("a plugin is given back that was not loaded");
        told("plugin given back");
    }
};

struct EngineFunctions : apiv::DefaultVCudaEngine {
    // Throws std::string: it is no engine.
    EngineFunctions(const std::string& serialized, ILogger& logger, IGpuAllocator* allocator,
                    std::atomic<int>& engines)
        : opened_{std::make_shared<EngineText>(serialized),
                  nullptr,
                  logger,
                  allocator,
                  nullptr,
                  {},
                  {},
                  {}},
          engines_(engines) {
        opened_.users.resize(static_cast<std::size_t>(opened_.text->profiles));
        opened_.computation = std::make_shared<Computation>(*opened_.text);
        opened_.weights = std::make_unique<stand_in::GpuRoom>(allocator, kWeights);
        ++engines_;
    }
    ~EngineFunctions() override {
        if (opened_.contexts != 0) misused("an engine is destroyed before its contexts");
        --engines_;
    }
    std::int32_t getNbOptimizationProfiles() const noexcept override {
        return opened_.text->profiles;
    }
    std::int32_t getNbIOTensors() const noexcept override {
        return static_cast<std::int32_t>(opened_.text->tensors.size());
    }
    const char* getIOTensorName(std::int32_t index) const noexcept override {
        const auto& tensors = opened_.text->tensors;
        const auto place = static_cast<std::size_t>(index);
        return place < tensors.size() ? tensors[place].name.c_str() : nullptr;
    }
    TensorIOMode getTensorIOMode(const char* name) const noexcept override {
        const Tensor* const found = opened_.text->find(name);
        if (found == nullptr) return TensorIOMode::kNONE;
        return found->is_input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(const char* name) const noexcept override {
        const Tensor* const found = opened_.text->find(name);
        return found == nullptr ? DataType::kFLOAT : found->type;
    }
    TensorLocation getTensorLocation(const char* name) const noexcept override {
        const Tensor* const found = opened_.text->find(name);
        const bool on_host = found != nullptr && found->on_host;
        return on_host ? TensorLocation::kHOST : TensorLocation::kDEVICE;
    }
    bool isShapeInferenceIO(const char* name) const noexcept override {
        return getTensorLocation(name) == TensorLocation::kHOST;
    }
    TensorFormat getTensorFormat(const char*) const noexcept override {
        return TensorFormat::kLINEAR;
    }
    Dims getTensorShape(const char* name) const noexcept override {
        const Tensor* const found = opened_.text->find(name);
        Dims none{};
        none.nbDims = -1;
        return found == nullptr ? none : stand_in::dims_of(found->shape({}));
    }
    Dims getProfileShape(const char* name, std::int32_t profile,
                         OptProfileSelector which) const noexcept override {
        const Tensor* const found = opened_.text->find(name);
        Dims none{};
        none.nbDims = -1;
        if (found == nullptr || !found->is_input || profile < 0 ||
            profile >= getNbOptimizationProfiles()) {
            return none;
        }
        const auto& dims = which == OptProfileSelector::kMIN ? found->min : found->max;
        return dims[static_cast<std::size_t>(profile)];
    }

    IExecutionContext* created(std::size_t activations) noexcept {
        try {
            if (refuses("context")) throw std::string("out of memory");
            return new Context(opened_, *engine, activations);
        } catch (const std::string& why) {
            opened_.logger.log(ILogger::Severity::kERROR, why.c_str());
            return nullptr;
        }
    }
    std::size_t most() const { return stand_in::most_activations(opened_.text->profiles); }
#if NV_TENSORRT_MAJOR < 11
    std::size_t getDeviceMemorySize() const noexcept override { return most(); }
    IExecutionContext* createExecutionContextWithoutDeviceMemory() noexcept override {
        return created(0);
    }
#endif
#if NV_TENSORRT_MAJOR < 10
    IExecutionContext* createExecutionContext() noexcept override { return created(most()); }
#else
    std::int64_t getDeviceMemorySizeV2() const noexcept override {
        return static_cast<std::int64_t>(most());
    }
    std::int64_t getDeviceMemorySizeForProfileV2(std::int32_t profile) const noexcept override {
        return static_cast<std::int64_t>(stand_in::kActivations[profile == 0 ? 0 : 1]);
    }
    IExecutionContext* createExecutionContext(
        ExecutionContextAllocationStrategy strategy) noexcept override {
        const bool managed = strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED;
        return created(managed ? 0 : most());
    }
#endif

    const ICudaEngine* engine = nullptr;  // itself

 private:
    Opened opened_;
    std::atomic<int>& engines_;
};

class Engine : public ICudaEngine {
 public:
    template <typename... Arguments>
    explicit Engine(Arguments&&... arguments) : functions_(std::forward<Arguments>(arguments)...) {
        functions_.engine = this;
        mImpl = &functions_;
    }

 private:
    EngineFunctions functions_;
};

struct RuntimeFunctions : apiv::DefaultVRuntime {
    explicit RuntimeFunctions(ILogger& logger) : logger_(logger) {}
    ~RuntimeFunctions() override {
        if (engines_ != 0) misused("a runtime is destroyed before its engines");
    }
    void setEngineHostCodeAllowed(bool allowed) noexcept override {
        told(std::string("host code ") + (allowed ? "allowed" : "refused"));
        host_code_ = allowed;
    }
    bool getEngineHostCodeAllowed() const noexcept override { return host_code_; }
    void setGpuAllocator(IGpuAllocator* allocator) noexcept override { allocator_ = allocator; }
#if NV_TENSORRT_MAJOR < 10
    ICudaEngine* deserializeCudaEngine(const void* bytes, std::size_t size,
                                       IPluginFactory*) noexcept override {
#else
    ICudaEngine* deserializeCudaEngine(const void* bytes, std::size_t size) noexcept override {
#endif
        try {
            if (refuses("engine")) throw std::string("the engine is of another GPU");
            const std::string text(static_cast<const char*>(bytes), size);
            return new Engine(text, logger_, allocator_, engines_);
        } catch (const std::string& why) {
            logger_.log(ILogger::Severity::kERROR, why.c_str());
            return nullptr;
        }
    }

 private:
    ILogger& logger_;
    IGpuAllocator* allocator_ = nullptr;
    bool host_code_ = false;
    std::atomic<int> engines_{0};
};
using Runtime = Acting<IRuntime, RuntimeFunctions>;

}  // namespace

extern "C" {

std::int32_t getInferLibVersion() noexcept {
    const char* const claimed = std::getenv("STAND_IN_VERSION");
    return claimed != nullptr ? std::atoi(claimed) : static_cast<std::int32_t>(NV_TENSORRT_VERSION);
}

nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
    static Registry registry;
    return &registry;
}

void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept {
    auto& log = *static_cast<ILogger*>(logger);
    if (version != static_cast<std::int32_t>(NV_TENSORRT_VERSION)) {
        log.log(ILogger::Severity::kERROR, "the headers are of another version");
        return nullptr;
    }
    return static_cast<IRuntime*>(new Runtime(log));
}
}
