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

void check_shapes(const Op &op, const Plugin &plugin, int tokens, int expected) {
    Builder builder;
    const auto inputs = symbols(op, tokens, builder);
    nvinfer1::DimsExprs outputs[2]{};
    const auto shapes = [&](std::int32_t count) {
        return build_of(plugin).getOutputShapes(inputs.data(), count, nullptr, 0, outputs,
                                                op.outputs, builder);
    };
    demand(shapes(op.inputs) == 0, "shapes of the outputs");
    check_outputs(op, outputs, expected);
    const StderrText log;
    demand(shapes(op.inputs + 1) != 0 && shapes(op.inputs - 1) != 0, "other inputs are refused");
    demand(log.text().find(std::to_string(op.inputs + 1) + " inputs, expected " +
                           (op.prompt() ? "hidden_states" : "features")) != std::string::npos,
           "and counted");
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

void check_formats(const Op &op, const Plugin &plugin, nvinfer1::DataType type) {
    const auto described = dynamic(tensors(op, type));
    const auto *const behind = described.data() + op.inputs;
    for (std::size_t i = 0; i < described.size(); ++i) {
        const auto as = [&](nvinfer1::DataType other, nvinfer1::TensorFormat format) {
            auto changed = described;
            changed[i].desc.type = other;
            changed[i].desc.format = format;
            return build_of(plugin).supportsFormatCombination(
                static_cast<std::int32_t>(i), changed.data(), op.inputs, op.outputs);
        };
        const auto own = described[i].desc.type;
        demand(as(own, nvinfer1::TensorFormat::kLINEAR), "its own type, row-major");
        demand(!as(own, nvinfer1::TensorFormat::kCHW32), "no other layout");
        demand(!as(nvinfer1::DataType::kINT8, nvinfer1::TensorFormat::kLINEAR), "no int8");
        for (const auto whole : whole_types()) {
            const bool counts = op.prompt() && (i == 4 || i == 5);
            demand(as(whole, nvinfer1::TensorFormat::kLINEAR) == (counts || own == whole),
                   "whole numbers of any width where they are whole");
        }
    }
    std::vector<nvinfer1::DataType> inputs;
    for (const auto &tensor : described) {
        inputs.push_back(tensor.desc.type);
    }
    nvinfer1::DataType outputs[2]{};
    demand(build_of(plugin).getOutputDataTypes(outputs, op.outputs, inputs.data(), op.inputs) == 0,
           "types of the outputs");
    for (std::int32_t i = 0; i < op.outputs; ++i) {
        demand(outputs[i] == behind[i].desc.type, "the type of an output");
    }
    {
        const StderrText log;
        demand(
            build_of(plugin).configurePlugin(described.data(), op.inputs, behind, op.outputs) == 0,
            "a good configuration");
        demand(log.text().find("could not be loaded") != std::string::npos,
               "the kernel is loaded at configuration");
    }
    demand(build_of(plugin).getWorkspaceSize(described.data(), op.inputs, behind, op.outputs) > 0,
           "a workspace");
}

void check_limits(const Op &op, const Plugin &plugin) {
    auto &build = build_of(plugin);
    auto &runtime = runtime_of(*plugin);
    const void *const inputs[6] = {};
    void *const outputs[2] = {};
    const auto configure = [&](const auto &largest, std::int32_t count) {
        return build.configurePlugin(largest.data(), count, largest.data() + op.inputs, op.outputs);
    };
    const auto change = [&](const auto &actual, std::int32_t count) {
        return runtime.onShapeChange(actual.data(), count, actual.data() + op.inputs, op.outputs);
    };
    for (const BadExtents &bad : bad_extents(op)) {
        auto actual = tensors(op, nvinfer1::DataType::kHALF);
        actual[bad.tensor].dims = bad.extents;
        const auto check = [&bad](const auto &call) {
            const StderrText log;
            demand(call() != 0, std::string("refused: ") + bad.message);
            demand(log.text().find(bad.message) != std::string::npos, log.text());
        };
        check([&] { return configure(dynamic(actual), op.inputs); });
        check([&] { return change(actual, op.inputs); });
        check([&] {
            return runtime.enqueue(actual.data(), actual.data() + op.inputs, inputs, outputs,
                                   nullptr, nullptr);
        });
    }
    const auto good = tensors(op, nvinfer1::DataType::kHALF);
    auto beyond = dynamic(good);
    constexpr auto kBeyond = (std::int64_t{1} << 32) + 2;
    if (op.prompt()) {
        beyond[0].max.d[2] = kBeyond;
    }
    for (std::int32_t i = 0; i < 2 && i < op.inputs && !op.prompt(); ++i) {
        beyond[static_cast<std::size_t>(i)].max.d[0] = kBeyond;
    }
    const StderrText log;
    demand(configure(dynamic(good), op.inputs + 1) != 0, "another input");
    demand(configure(beyond, op.inputs) != 0, "a large extent");
    demand(log.text().find("expected extents below 2^31") != std::string::npos, log.text());
    demand(change(good, op.inputs - 1) != 0, "an input less");
    demand(log.text().find("could not be loaded") == std::string::npos, "not for bad extents");
    demand(change(good, op.inputs) == 0, "good extents");
    demand(log.text().find(std::string(op.name) + " could not be loaded") != std::string::npos,
           "the kernel is loaded where extents change");
    demand(runtime.enqueue(good.data(), good.data() + op.inputs, inputs, outputs, nullptr,
                           nullptr) != 0,
           "no launch without a GPU");
    demand(log.text().find(std::string(op.name) + " could not be launched") != std::string::npos,
           log.text());
}

auto &creator_of(void *library, std::size_t op) {
    using GetCreators = nvinfer1::IPluginCreatorInterface *const *(*)(std::int32_t &);
    const auto get = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    demand(get != nullptr, "getCreators is not exported");
    std::int32_t count = 0;
    nvinfer1::IPluginCreatorInterface *const *const creators = get(count);
    demand(static_cast<std::size_t>(count) == ops().size(), "a creator for each op");
    return static_cast<nvinfer1::IPluginCreatorV3One &>(*creators[op]);
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

// An op's creator, and what it creates.
void check_op(void *library, std::size_t place) {
    const Op &op = ops()[place];
    auto &creator = creator_of(library, place);
    demand(creator.getPluginName() == std::string(op.name) &&
               creator.getPluginVersion() == std::string("1") &&
               creator.getPluginNamespace() == std::string("d2export"),
           std::string("a creator by name, version and namespace: ") + op.name);
    demand(creator.getInterfaceInfo().kind == std::string("PLUGIN CREATOR_V3ONE"),
           "a creator of IPluginV3");
    demand(names_of(*creator.getFieldNames()) == op.attributes, "the attributes");
    const auto create = [&](FieldList &fields) {
        return Plugin(
            creator.createPlugin("node", fields.collection(), nvinfer1::TensorRTPhase::kBUILD));
    };

    FieldList fields;
    fields.whole("keep", 64);
    const Plugin plugin = create(fields);
    demand(plugin != nullptr, "a plugin from good attributes");
    check_shapes(op, plugin, 576, op.prompt() ? kImages * 64 : 64);
    check_shapes(op, plugin, 40, 40);
    check_shapes(op, plugin, -1, -1);
    const std::int64_t permille = 250;
    FieldList share;
    share.field({"keep_permille", &permille, nvinfer1::PluginFieldType::kINT64, 1});
    check_shapes(op, create(share), 577, 144);
    check_shapes(op, create(share), 2, op.prompt() ? kImages : 1);

    demand(build_of(plugin).getNbOutputs() == op.outputs, "outputs");
    for (const auto type : feature_types()) {
        check_formats(op, plugin, type);
    }
    check_limits(op, plugin);

    FieldList others;  // none with its default
    others.whole("keep", 7);
    for (const std::string &name : op.attributes) {
        if (is_real(name)) {
            others.real(name.c_str(), 0.25F);
        } else if (name == "pivots_block") {
            others.whole(name.c_str(), 1);
        }
    }
    const Plugin other = create(others);
    demand(values_of(*other).size() == op.attributes.size(), "all attributes go to the engine");
    for (const auto &[name, bytes] : values_of(*plugin)) {
        demand(name == "keep_permille" || values_of(*other)[name] != bytes, "its own value");
    }
    const Plugin clone(other->clone());
    demand(clone.get() != other.get() && values_of(*clone) == values_of(*other),
           "a clone is equal");
    const Plugin attached(runtime_of(*other).attachToContext(nullptr));
    demand(values_of(*attached) == values_of(*other), "so is one attached to a context");
    const Plugin again(creator.createPlugin("node", runtime_of(*other).getFieldsToSerialize(),
                                            nvinfer1::TensorRTPhase::kRUNTIME));
    demand(again && values_of(*again) == values_of(*other), "attributes to engine and back");

    for (BadFields &bad : bad_fields(op)) {
        const StderrText log;
        demand(!create(bad.list), bad.message);
        demand(log.text().find(bad.message) != std::string::npos,
               "expected '" + bad.message + "' in: " + log.text());
    }
}

}  // namespace

void create_without_attributes(void *library) {
    const nvinfer1::PluginFieldCollection none{};
    demand(!Plugin(
               creator_of(library, 0).createPlugin("node", &none, nvinfer1::TensorRTPhase::kBUILD)),
           "no attributes");
}

void check_plugins(void *library) {
    for (std::size_t op = 0; op < ops().size(); ++op) {
        check_op(library, op);
    }
}

void run_plugin(void *library, std::size_t op, FieldList &fields,
                const std::vector<nvinfer1::PluginTensorDesc> &described, const void *const *inputs,
                void *const *outputs) {
    const Plugin plugin(
        creator_of(library, op)
            .createPlugin("node", fields.collection(), nvinfer1::TensorRTPhase::kRUNTIME));
    const auto largest = dynamic(described);
    const auto *const behind = described.data() + ops()[op].inputs;
    std::vector<unsigned char> workspace(build_of(plugin).getWorkspaceSize(
        largest.data(), ops()[op].inputs, largest.data() + ops()[op].inputs, ops()[op].outputs));
    demand(runtime_of(*plugin).onShapeChange(described.data(), ops()[op].inputs, behind,
                                             ops()[op].outputs) == 0,
           "the extents of a launch");
    demand(runtime_of(*plugin).enqueue(described.data(), behind, inputs, outputs, workspace.data(),
                                       nullptr) == 0,
           std::string("a launch of ") + ops()[op].name);
}

}  // namespace d2export::tests

#endif
