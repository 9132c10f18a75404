#include "harness.h"

#if NV_TENSORRT_MAJOR >= 10

#include <dlfcn.h>

#include <map>
#include <memory>

#include "stderr_text.h"

namespace d2export::tests {
namespace {

using Plugin = std::unique_ptr<nvinfer1::IPluginV3>;
using nvinfer1::PluginCapabilityType;

auto &build_of(const Plugin &plugin) {
    return *static_cast<nvinfer1::IPluginV3OneBuild *>(
        plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
}

auto &runtime_of(nvinfer1::IPluginV3 &plugin) {
    return *static_cast<nvinfer1::IPluginV3OneRuntime *>(
        plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

void check_shapes(const Plugin &plugin, int tokens, int expected) {
    Builder builder;
    const nvinfer1::DimsExprs inputs[] = {
        expressions({2, tokens, 1024}, builder), expressions({2, 16, tokens}, builder),
        expressions({tokens}, builder), expressions({tokens, 2}, builder)};
    nvinfer1::DimsExprs outputs[2]{};
    demand(build_of(plugin).getOutputShapes(inputs, 4, nullptr, 0, outputs, 2, builder) == 0,
           "shapes of the outputs");
    demand(outputs[0].nbDims == 3 && outputs[1].nbDims == 2, "ranks of the outputs");
    demand(outputs[0].d[0]->getConstantValue() == 2 && outputs[0].d[2]->getConstantValue() == 1024,
           "batch and channels of kept");
    demand(outputs[0].d[1]->getConstantValue() == expected, "tokens of kept");
    demand(
        outputs[1].d[0]->getConstantValue() == 2 && outputs[1].d[1]->getConstantValue() == expected,
        "shape of indices");
    const StderrText log;
    demand(build_of(plugin).getOutputShapes(inputs, 3, nullptr, 0, outputs, 2, builder) != 0,
           "three inputs are refused");
    demand(log.text().find("3 inputs") != std::string::npos, "and counted");
}

std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(
    const std::vector<nvinfer1::PluginTensorDesc> &described) {
    std::vector<nvinfer1::DynamicPluginTensorDesc> tensors;
    for (const auto &tensor : described) {
        nvinfer1::DynamicPluginTensorDesc one{};
        one.desc = tensor;
        one.min = one.opt = one.max = tensor.dims;
        tensors.push_back(one);
    }
    return tensors;
}

void check_formats(const Plugin &plugin, nvinfer1::DataType type) {
    const auto described = dynamic(tensors(type));
    for (std::size_t i = 0; i < 6; ++i) {
        const auto as = [&](nvinfer1::DataType other, nvinfer1::TensorFormat format) {
            auto changed = described;
            changed[i].desc.type = other;
            changed[i].desc.format = format;
            return build_of(plugin).supportsFormatCombination(static_cast<std::int32_t>(i),
                                                              changed.data(), 4, 2);
        };
        const auto own = described[i].desc.type;
        demand(as(own, nvinfer1::TensorFormat::kLINEAR), "its own type, row-major");
        demand(!as(own, nvinfer1::TensorFormat::kCHW32), "no other layout");
        demand(!as(nvinfer1::DataType::kINT8, nvinfer1::TensorFormat::kLINEAR), "no int8");
    }
    const nvinfer1::DataType inputs[] = {type, nvinfer1::DataType::kFLOAT,
                                         nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kFLOAT};
    nvinfer1::DataType outputs[2]{};
    demand(build_of(plugin).getOutputDataTypes(outputs, 2, inputs, 4) == 0 && outputs[0] == type &&
               outputs[1] == nvinfer1::DataType::kINT32,
           "types of the outputs");
    {
        const StderrText log;
        demand(build_of(plugin).configurePlugin(described.data(), 4, described.data() + 4, 2) == 0,
               "a good configuration");
        demand(log.text().find("could not be loaded") != std::string::npos,
               "the kernel is loaded at configuration");
    }
    demand(build_of(plugin).getWorkspaceSize(described.data(), 4, described.data() + 4, 2) > 0,
           "a workspace");
}

void check_limits(const Plugin &plugin) {
    auto &build = build_of(plugin);
    auto &runtime = runtime_of(*plugin);
    const void *const inputs[4] = {};
    void *const outputs[2] = {};
    for (const BadExtents &bad : bad_extents()) {
        auto actual = tensors(nvinfer1::DataType::kHALF);
        actual[bad.tensor].dims = bad.extents;
        const auto largest = dynamic(actual);
        const auto check = [&bad](const auto &call) {
            const StderrText log;
            demand(call() != 0, std::string("refused: ") + bad.message);
            demand(log.text().find(bad.message) != std::string::npos, log.text());
        };
        check([&] { return build.configurePlugin(largest.data(), 4, largest.data() + 4, 2); });
        check([&] { return runtime.onShapeChange(actual.data(), 4, actual.data() + 4, 2); });
        check([&] {
            return runtime.enqueue(actual.data(), actual.data() + 4, inputs, outputs, nullptr,
                                   nullptr);
        });
    }
    auto beyond = dynamic(tensors(nvinfer1::DataType::kHALF));
    beyond[0].max.d[0] = beyond[1].max.d[0] = (std::int64_t{1} << 32) + 2;
    const auto good = tensors(nvinfer1::DataType::kHALF);
    const auto largest = dynamic(good);
    const StderrText log;
    demand(build.configurePlugin(largest.data(), 3, largest.data() + 4, 2) != 0, "three inputs");
    demand(build.configurePlugin(beyond.data(), 4, beyond.data() + 4, 2) != 0, "a large batch");
    demand(log.text().find("expected extents below 2^31") != std::string::npos, log.text());
    demand(runtime.onShapeChange(good.data(), 3, good.data() + 4, 2) != 0, "three inputs again");
    demand(log.text().find("could not be loaded") == std::string::npos, "not for bad extents");
    demand(runtime.onShapeChange(good.data(), 4, good.data() + 4, 2) == 0, "good extents");
    demand(log.text().find("could not be loaded") != std::string::npos,
           "the kernel is loaded where extents change");
    Builder builder;
    const nvinfer1::DimsExprs flat[4] = {expressions({576}, builder)};
    nvinfer1::DimsExprs shapes[2]{};
    demand(build.getOutputShapes(flat, 4, nullptr, 0, shapes, 2, builder) != 0, "flat features");
    demand(log.text().find("features has 1 dimensions") != std::string::npos, log.text());
}

auto &creator_of(void *library) {
    using GetCreators = nvinfer1::IPluginCreatorInterface *const *(*)(std::int32_t &);
    const auto get = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    demand(get != nullptr, "getCreators is not exported");
    std::int32_t count = 0;
    nvinfer1::IPluginCreatorInterface *const *const creators = get(count);
    demand(count == 1, "one creator");
    return static_cast<nvinfer1::IPluginCreatorV3One &>(*creators[0]);
}

// Attributes as TensorRT writes them into an engine: names and bytes, copied.
std::map<std::string, std::vector<unsigned char>> values_of(nvinfer1::IPluginV3 &plugin) {
    std::map<std::string, std::vector<unsigned char>> values;
    const auto *const fields = runtime_of(plugin).getFieldsToSerialize();
    for (std::int32_t i = 0; i < fields->nbFields; ++i) {
        const auto *const bytes = static_cast<const unsigned char *>(fields->fields[i].data);
        values[fields->fields[i].name].assign(bytes, bytes + 4);
    }
    return values;
}

}  // namespace

void create_without_attributes(void *library) {
    const nvinfer1::PluginFieldCollection none{};
    demand(
        !Plugin(creator_of(library).createPlugin("node", &none, nvinfer1::TensorRTPhase::kBUILD)),
        "no attributes");
}

void check_plugin(void *library) {
    auto &creator = creator_of(library);
    demand(creator.getPluginName() == std::string("D2Prune") &&
               creator.getPluginVersion() == std::string("1") &&
               creator.getPluginNamespace() == std::string("d2export"),
           "one creator by name, version and namespace");
    demand(creator.getInterfaceInfo().kind == std::string("PLUGIN CREATOR_V3ONE"),
           "a creator of IPluginV3");
    demand(creator.getFieldNames()->nbFields == 7, "seven attributes");
    const auto create = [&](FieldList &fields) {
        return Plugin(
            creator.createPlugin("node", fields.collection(), nvinfer1::TensorRTPhase::kBUILD));
    };

    FieldList fields;
    fields.whole("keep", 64).real("alpha", 0.25F).whole("pivots_block", 1);
    const Plugin plugin = create(fields);
    demand(plugin != nullptr, "a plugin from good attributes");
    check_shapes(plugin, 576, 64);
    check_shapes(plugin, 40, 40);
    check_shapes(plugin, -1, -1);
    const std::int64_t permille = 250;
    FieldList share;
    share.field({"keep_permille", &permille, nvinfer1::PluginFieldType::kINT64, 1});
    check_shapes(create(share), 577, 144);
    check_shapes(create(share), 2, 1);

    demand(build_of(plugin).getNbOutputs() == 2, "two outputs");
    for (const auto type : feature_types()) {
        check_formats(plugin, type);
    }
    check_limits(plugin);

    const Plugin clone(plugin->clone());
    demand(clone.get() != plugin.get() && values_of(*clone) == values_of(*plugin),
           "a clone is equal");
    const Plugin attached(runtime_of(*plugin).attachToContext(nullptr));
    demand(values_of(*attached) == values_of(*plugin), "so is one attached to a context");
    const Plugin again(creator.createPlugin("node", runtime_of(*plugin).getFieldsToSerialize(),
                                            nvinfer1::TensorRTPhase::kRUNTIME));
    demand(again && values_of(*again) == values_of(*plugin), "attributes to engine and back");

    for (BadFields &bad : bad_fields()) {
        const StderrText log;
        demand(!create(bad.list), bad.message);
        demand(log.text().find(bad.message) != std::string::npos,
               std::string("expected '") + bad.message + "' in: " + log.text());
    }
}

}  // namespace d2export::tests

#endif
