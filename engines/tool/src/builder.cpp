#include "builder.h"

#include <vector>

#include "files.h"
#include "onnx_types.h"
#include "versions.h"

namespace d2export::tool {
namespace {

namespace fs = std::filesystem;

std::uint32_t mask(const char* enumeration, const std::vector<std::string>& names) {
    std::uint32_t bits = 0;
    for (const std::string& name : names) bits |= 1u << number_of(enumeration, name);
    return bits;
}

template <typename Enum>
Enum named(const char* enumeration, const std::string& name) {
    return static_cast<Enum>(number_of(enumeration, name));
}

// A plan is for the major version it names, and for what is newer than it says.
void check_version(const Libraries& libraries, const Plan& plan) {
    const Version wanted = version_from(plan.tensorrt);
    const Version found = libraries.version();
    const bool fits = wanted[0] == found[0] && Version{wanted[0], wanted[1], 0} <= found;
    if (!fits) {
        throw mismatch(
            "the plan is for TensorRT " + plan.tensorrt + ", the library is " + text_of(found),
            "Plan anew for the TensorRT of this machine: d2export build BUNDLE --target "
            "NAME.");
    }
}

std::string absent_ops(const Libraries& libraries, const PluginUse& use) {
    std::string absent;
    for (const std::string& op : use.ops) {
        if (!has_creator(libraries.registry(), op, use.version, use.name_space)) {
            absent += (absent.empty() ? "" : ", ") + op;
        }
    }
    return absent;
}

// Makes sure that the registry has a creator for every op of the plugin.
void need_plugin(const Libraries& libraries, const Log& log, const PluginUse& use,
                 const std::optional<fs::path>& library) {
    if (absent_ops(libraries, use).empty()) return;
    if (!library) {
        throw usage(
            "the plan needs the plugin " + absent_ops(libraries, use) + ", and --plugin is missing",
            "Pass its library, " + use.library + ".");
    }
    load_plugin(libraries, log, *library);
    const std::string absent = absent_ops(libraries, use);
    if (!absent.empty()) {
        throw log.failure("TensorRT " + text_of(libraries.version()) + " finds no plugin " +
                          absent + ", version " + use.version + ", namespace " + use.name_space +
                          ", in " + library->string());
    }
}

void parse(const Libraries& libraries, const Log& log, nvonnxparser::IParser& parser,
           const fs::path& onnx) {
    const auto verbosity = static_cast<int>(nvinfer1::ILogger::Severity::kWARNING);
    if (parser.parseFromFile(onnx.c_str(), verbosity)) return;
    std::vector<std::string> errors;
    for (int index = 0; index < parser.getNbErrors(); ++index) {
        errors.push_back(text_of(*parser.getError(index)));
    }
    if (errors.empty()) errors.emplace_back("it does not say why");
    throw log.failure(
        "the parser of TensorRT " + text_of(libraries.version()) + " cannot read " + onnx.string(),
        errors);
}

void configure(nvinfer1::IBuilderConfig& config, const Plan& plan,
               const std::optional<fs::path>& plugin) {
    for (const std::string& name : plan.builder_flags) {
        config.setFlag(named<nvinfer1::BuilderFlag>("BuilderFlag", name));
    }
    for (const std::string& name : plan.cleared_flags) {
        config.clearFlag(named<nvinfer1::BuilderFlag>("BuilderFlag", name));
    }
    for (const std::string& name : plan.preview_features) {
        config.setPreviewFeature(named<nvinfer1::PreviewFeature>("PreviewFeature", name), true);
    }
    config.setTacticSources(mask("TacticSource", plan.tactic_sources));
    for (const auto& [name, bytes] : plan.memory_pools) {
        config.setMemoryPoolLimit(named<nvinfer1::MemoryPoolType>("MemoryPoolType", name),
                                  static_cast<std::size_t>(bytes));
    }
    config.setBuilderOptimizationLevel(static_cast<std::int32_t>(plan.optimization_level));
    config.setHardwareCompatibilityLevel(named<nvinfer1::HardwareCompatibilityLevel>(
        "HardwareCompatibilityLevel", plan.hardware_compatibility));
    if (plan.plugin && plan.plugin->serialized) {
        const std::string library = plugin ? plugin->string() : plan.plugin->library;
        const char* const paths[] = {library.c_str()};
        config.setPluginsToSerialize(paths, 1);
    }
}

nvinfer1::Dims dims_of(const std::string& input, const std::vector<std::int64_t>& sizes) {
    nvinfer1::Dims dims{};
    if (sizes.size() > static_cast<std::size_t>(nvinfer1::Dims::MAX_DIMS)) {
        throw usage("the plan's " + input + " has " + std::to_string(sizes.size()) +
                        " dimensions, expected at most " + std::to_string(nvinfer1::Dims::MAX_DIMS),
                    "Plan again: d2export build BUNDLE --target NAME.");
    }
    for (const std::int64_t size : sizes) {
        dims.d[dims.nbDims++] = static_cast<std::decay_t<decltype(dims.d[0])>>(size);
    }
    return dims;
}

void add_profile(nvinfer1::IBuilder& builder, nvinfer1::IBuilderConfig& config, const Log& log,
                 const Profile& profile) {
    nvinfer1::IOptimizationProfile& made = *builder.createOptimizationProfile();
    bool taken = true;
    for (const auto& [input, shapes] : profile.shapes) {
        using Selector = nvinfer1::OptProfileSelector;
        const std::pair<Selector, const std::vector<std::int64_t>&> all[] = {
            {Selector::kMIN, shapes.min},
            {Selector::kOPT, shapes.opt},
            {Selector::kMAX, shapes.max}};
        for (const auto& [selector, sizes] : all) {
            taken = made.setDimensions(input.c_str(), selector, dims_of(input, sizes)) && taken;
        }
    }
    if (!taken || config.addOptimizationProfile(&made) < 0) {
        throw log.failure("TensorRT refuses the optimization profile " + profile.name);
    }
}

// Lets the builder use what the file remembers; an empty cache if there is none yet.
std::unique_ptr<nvinfer1::ITimingCache> use_timing_cache(nvinfer1::IBuilderConfig& config,
                                                         const Log& log, const std::string& file) {
    const std::string bytes = read_if_there(file).value_or("");
    std::unique_ptr<nvinfer1::ITimingCache> cache(
        config.createTimingCache(bytes.data(), bytes.size()));
    if (cache == nullptr || !config.setTimingCache(*cache, false)) {
        throw log.failure("the timing cache " + file + " is of another TensorRT or GPU", {},
                          "Plan with another --timing-cache, or delete the file.");
    }
    return cache;
}

}  // namespace

void load_plugin(const Libraries& libraries, const Log& log, const fs::path& library) {
    // By its full path: dlopen looks for a bare name elsewhere.
    if (libraries.registry().loadLibrary(fs::absolute(library).c_str()) == nullptr) {
        throw log.failure("TensorRT " + text_of(libraries.version()) + " cannot load the plugin " +
                              library.string(),
                          {}, "docs/plugin.md says what keeps it from being loaded.");
    }
}

void build(const Libraries& libraries, Log& log, const Plan& plan, const fs::path& onnx,
           const fs::path& engine, const std::optional<fs::path>& plugin) {
    check_version(libraries, plan);
    const std::string model = read_file(onnx, "the ONNX file of the plan, " + plan.onnx);
    if (plan.plugin) need_plugin(libraries, log, *plan.plugin, plugin);
    const auto builder = libraries.builder(log);
    const std::unique_ptr<nvinfer1::INetworkDefinition> network(
        builder->createNetworkV2(mask("NetworkDefinitionCreationFlag", plan.network_flags)));
    const auto parser = libraries.parser(*network, log);
    parse(libraries, log, *parser, onnx);
    if (plan.pins_layer_types) pin_types(*network, float_values(model, onnx.string()));
    const std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
    configure(*config, plan, plugin);
    for (const Profile& profile : plan.profiles) add_profile(*builder, *config, log, profile);
    std::unique_ptr<nvinfer1::ITimingCache> cache;
    if (plan.timing_cache) cache = use_timing_cache(*config, log, *plan.timing_cache);
    const auto progress = plan.progress_monitor ? watch(*config) : nullptr;
    const std::unique_ptr<nvinfer1::IHostMemory> built(
        builder->buildSerializedNetwork(*network, *config));
    if (built == nullptr) {
        throw log.failure("TensorRT " + text_of(libraries.version()) + " cannot build " +
                          engine.string() + " from " + onnx.string());
    }
    write_file(engine, built->data(), built->size());
    if (plan.timing_cache) {
        const std::unique_ptr<nvinfer1::IHostMemory> timings(config->getTimingCache()->serialize());
        write_file(*plan.timing_cache, timings->data(), timings->size());
    }
}

}  // namespace d2export::tool
