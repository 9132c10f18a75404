#include "harness.h"

#if NV_TENSORRT_MAJOR < 10

#include <dlfcn.h>

#include <algorithm>
#include <memory>

#include "stderr_text.h"

namespace d2export::tests {
namespace {

struct Destroy {
    void operator()(nvinfer1::IPluginV2 *plugin) const noexcept { plugin->destroy(); }
};
using Plugin = std::unique_ptr<nvinfer1::IPluginV2, Destroy>;

nvinfer1::IPluginV2DynamicExt &dynamic(const Plugin &plugin) {
    return static_cast<nvinfer1::IPluginV2DynamicExt &>(*plugin);
}

void check_shapes(const Op &op, const Plugin &plugin, int tokens, int expected) {
    Builder builder;
    const auto inputs = symbols(op, tokens, builder);
    const auto extents_of = [&](std::int32_t output, std::int32_t count) {
        return dynamic(plugin).getOutputDimensions(output, inputs.data(), count, builder);
    };
    const nvinfer1::DimsExprs outputs[] = {extents_of(0, op.inputs),
                                           extents_of(op.outputs - 1, op.inputs)};
    check_outputs(op, outputs, expected);
    const StderrText log;
    demand(extents_of(0, op.inputs + 1).nbDims == 0 && extents_of(0, op.inputs - 1).nbDims == 0,
           "other inputs are refused");
    demand(log.text().find(std::to_string(op.inputs + 1) + " inputs, expected " +
                           (op.prompt() ? "hidden_states" : "features")) != std::string::npos,
           "and counted");
}

std::vector<nvinfer1::DynamicPluginTensorDesc> largest_of(
    const std::vector<nvinfer1::PluginTensorDesc> &described) {
    std::vector<nvinfer1::DynamicPluginTensorDesc> largest;
    for (const auto &tensor : described) {
        largest.push_back({tensor, tensor.dims, tensor.dims});
    }
    return largest;
}

void configure(const Op &op, const Plugin &plugin,
               const std::vector<nvinfer1::PluginTensorDesc> &described) {
    const auto largest = largest_of(described);
    dynamic(plugin).configurePlugin(largest.data(), op.inputs, largest.data() + op.inputs,
                                    op.outputs);
}

// TensorRT 8.x lets no plugin refuse a configuration: it logs, and refuses to
// run.
void check_limits(const Op &op, const Plugin &plugin) {
    const void *const inputs[6] = {};
    void *const outputs[2] = {};
    const auto enqueue = [&](const std::vector<nvinfer1::PluginTensorDesc> &actual) {
        return dynamic(plugin).enqueue(actual.data(), actual.data() + op.inputs, inputs, outputs,
                                       nullptr, nullptr);
    };
    for (const BadExtents &bad : bad_extents(op)) {
        auto actual = tensors(op, nvinfer1::DataType::kHALF);
        actual[bad.tensor].dims = bad.extents;
        {
            const StderrText log;
            configure(op, plugin, actual);
            demand(log.text().find(bad.message) != std::string::npos, log.text());
            demand(log.text().find("could not be loaded") == std::string::npos,
                   "no kernel is loaded for bad extents");
        }
        const StderrText log;
        demand(enqueue(actual) != 0, std::string("refused: ") + bad.message);
        demand(log.text().find(bad.message) != std::string::npos, log.text());
    }
    const auto good = tensors(op, nvinfer1::DataType::kHALF);
    const StderrText log;
    configure(op, plugin, good);
    demand(log.text().find(std::string(op.name) + " could not be loaded") != std::string::npos,
           "the kernel is loaded at configuration");
    demand(enqueue(good) != 0, "no launch without a GPU");
    demand(log.text().find(std::string(op.name) + " could not be launched") != std::string::npos,
           log.text());
    Builder builder;
    const nvinfer1::DimsExprs flat[6] = {expressions({576}, builder)};
    demand(dynamic(plugin).getOutputDimensions(0, flat, op.inputs, builder).nbDims == 0,
           "flat features");
    demand(log.text().find(std::string(op.prompt() ? "hidden_states" : "features") +
                           " has 1 dimensions") != std::string::npos,
           log.text());
}

nvinfer1::IPluginCreator &creator_of(void *library, std::size_t op) {
    using GetCreators = nvinfer1::IPluginCreator *const *(*)(std::int32_t &);
    const auto get = reinterpret_cast<GetCreators>(dlsym(library, "getPluginCreators"));
    demand(get != nullptr, "getPluginCreators is not exported");
    std::int32_t count = 0;
    nvinfer1::IPluginCreator *const *const creators = get(count);
    demand(static_cast<std::size_t>(count) == ops().size(), "a creator for each op");
    return *creators[op];
}

std::vector<unsigned char> bytes_of(const Plugin &plugin) {
    std::vector<unsigned char> bytes(plugin->getSerializationSize());
    plugin->serialize(bytes.data());
    return bytes;
}

// Bytes at the very end of their memory, so that a sanitizer sees a read
// beyond.
Plugin read(nvinfer1::IPluginCreator &creator, const std::vector<unsigned char> &bytes) {
    const auto exact = std::make_unique<unsigned char[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), exact.get());
    return Plugin(creator.deserializePlugin("node", exact.get(), bytes.size()));
}

void check_hostile_bytes(nvinfer1::IPluginCreator &creator,
                         const std::vector<unsigned char> &good) {
    for (std::size_t size = 0; size < good.size(); ++size) {
        const StderrText log;
        demand(!read(creator, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}),
               "truncated to " + std::to_string(size) + " bytes");
        demand(log.text().find("damaged") != std::string::npos, "a reason for truncation");
    }
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
        auto changed = good;
        changed[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
        const StderrText log;
        demand(!read(creator, changed), "bit " + std::to_string(bit) + " flipped");
        const bool in_version = bit / 32 == 1;
        demand(!in_version || log.text().find("format version") != std::string::npos,
               "a foreign version is named");
    }
    auto longer = good;
    longer.push_back(0);
    const StderrText log;
    demand(!read(creator, longer), "a byte too many");
}

void check_formats(const Op &op, const Plugin &plugin, nvinfer1::DataType type) {
    const auto described = tensors(op, type);
    for (std::size_t i = 0; i < described.size(); ++i) {
        const auto as = [&](nvinfer1::DataType other, nvinfer1::TensorFormat format) {
            auto changed = described;
            changed[i].type = other;
            changed[i].format = format;
            return dynamic(plugin).supportsFormatCombination(static_cast<std::int32_t>(i),
                                                             changed.data(), op.inputs, op.outputs);
        };
        const auto own = described[i].type;
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
        inputs.push_back(tensor.type);
    }
    for (std::int32_t i = 0; i < op.outputs; ++i) {
        demand(dynamic(plugin).getOutputDataType(i, inputs.data(), op.inputs) ==
                   described[static_cast<std::size_t>(op.inputs + i)].type,
               "the type of an output");
    }
    demand(dynamic(plugin).getWorkspaceSize(described.data(), op.inputs,
                                            described.data() + op.inputs, op.outputs) > 0,
           "a workspace");
}

// An op's creator, and what it creates.
void check_op(void *library, std::size_t place) {
    const Op &op = ops()[place];
    nvinfer1::IPluginCreator &creator = creator_of(library, place);
    demand(creator.getPluginName() == std::string(op.name) &&
               creator.getPluginVersion() == std::string("1") &&
               creator.getPluginNamespace() == std::string("d2export"),
           std::string("a creator by name, version and namespace: ") + op.name);
    demand(names_of(*creator.getFieldNames()) == op.attributes, "the attributes");

    FieldList fields;
    fields.whole("keep", 64);
    const Plugin plugin(creator.createPlugin("node", fields.collection()));
    demand(plugin != nullptr, "a plugin from good attributes");
    demand(plugin->getPluginType() == std::string(op.name), "a plugin of the op");
    check_shapes(op, plugin, 576, op.prompt() ? kImages * 64 : 64);
    check_shapes(op, plugin, 40, 40);
    check_shapes(op, plugin, -1, -1);
    FieldList share;
    share.whole("keep_permille", 250);
    check_shapes(op, Plugin(creator.createPlugin("node", share.collection())), 577, 144);
    check_shapes(op, Plugin(creator.createPlugin("node", share.collection())), 2,
                 op.prompt() ? kImages : 1);

    demand(plugin->getNbOutputs() == op.outputs, "outputs");
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
    const Plugin other(creator.createPlugin("node", others.collection()));
    const Plugin clone(dynamic(other).clone());
    const auto bytes = bytes_of(other);
    demand(clone.get() != other.get() && bytes_of(clone) == bytes, "a clone is equal");
    demand(bytes != bytes_of(plugin), "other attributes are other bytes");
    demand(bytes_of(read(creator, bytes)) == bytes, "bytes to plugin to the same bytes");
    check_hostile_bytes(creator, bytes);
    for (std::size_t i = 0; i < ops().size(); ++i) {
        const StderrText log;
        demand(i == place || !read(creator_of(library, i), bytes), "bytes of another op");
        demand(i == place || log.text().find("do not start as this plugin") != std::string::npos,
               log.text());
    }

    for (BadFields &bad : bad_fields(op)) {
        const StderrText log;
        demand(!Plugin(creator.createPlugin("node", bad.list.collection())), bad.message);
        demand(log.text().find(bad.message) != std::string::npos,
               "expected '" + bad.message + "' in: " + log.text());
    }
}

}  // namespace

void create_without_attributes(void *library) {
    const nvinfer1::PluginFieldCollection none{};
    demand(!Plugin(creator_of(library, 0).createPlugin("node", &none)), "no attributes");
}

void check_plugins(void *library) {
    for (std::size_t op = 0; op < ops().size(); ++op) {
        check_op(library, op);
    }
}

void run_plugin(void *library, std::size_t op, FieldList &fields,
                const std::vector<nvinfer1::PluginTensorDesc> &described, const void *const *inputs,
                void *const *outputs) {
    const Plugin plugin(creator_of(library, op).createPlugin("node", fields.collection()));
    configure(ops()[op], plugin, described);
    const auto *const behind = described.data() + ops()[op].inputs;
    std::vector<unsigned char> workspace(dynamic(plugin).getWorkspaceSize(
        described.data(), ops()[op].inputs, behind, ops()[op].outputs));
    demand(dynamic(plugin).enqueue(described.data(), behind, inputs, outputs, workspace.data(),
                                   nullptr) == 0,
           std::string("a launch of ") + ops()[op].name);
}

}  // namespace d2export::tests

#endif
