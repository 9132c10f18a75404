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

void check_shapes(const Plugin &plugin, int tokens, int expected) {
    Builder builder;
    const nvinfer1::DimsExprs inputs[] = {
        expressions({2, tokens, 1024}, builder), expressions({2, 16, tokens}, builder),
        expressions({tokens}, builder), expressions({tokens, 2}, builder)};
    const auto kept = dynamic(plugin).getOutputDimensions(0, inputs, 4, builder);
    const auto indices = dynamic(plugin).getOutputDimensions(1, inputs, 4, builder);
    demand(kept.nbDims == 3 && indices.nbDims == 2, "ranks of the outputs");
    demand(kept.d[0]->getConstantValue() == 2 && kept.d[2]->getConstantValue() == 1024,
           "batch and channels of kept");
    demand(kept.d[1]->getConstantValue() == expected, "tokens of kept");
    demand(indices.d[0]->getConstantValue() == 2 && indices.d[1]->getConstantValue() == expected,
           "shape of indices");
}

// TensorRT 8.x lets no plugin refuse a configuration: it logs, and refuses to
// run.
void check_limits(const Plugin &plugin) {
    for (const BadExtents &bad : bad_extents()) {
        auto actual = tensors(nvinfer1::DataType::kHALF);
        actual[bad.tensor].dims = bad.extents;
        std::vector<nvinfer1::DynamicPluginTensorDesc> largest;
        for (const auto &tensor : actual) {
            largest.push_back({tensor, tensor.dims, tensor.dims});
        }
        {
            const StderrText log;
            dynamic(plugin).configurePlugin(largest.data(), 4, largest.data() + 4, 2);
            demand(log.text().find(bad.message) != std::string::npos, log.text());
            demand(log.text().find("could not be loaded") == std::string::npos,
                   "no kernel is loaded for bad extents");
        }
        const StderrText log;
        const void *const inputs[4] = {};
        void *const outputs[2] = {};
        demand(dynamic(plugin).enqueue(actual.data(), actual.data() + 4, inputs, outputs, nullptr,
                                       nullptr) != 0,
               std::string("refused: ") + bad.message);
        demand(log.text().find(bad.message) != std::string::npos, log.text());
    }
    {
        std::vector<nvinfer1::DynamicPluginTensorDesc> largest;
        for (const auto &tensor : tensors(nvinfer1::DataType::kHALF)) {
            largest.push_back({tensor, tensor.dims, tensor.dims});
        }
        const StderrText log;
        dynamic(plugin).configurePlugin(largest.data(), 4, largest.data() + 4, 2);
        demand(log.text().find("could not be loaded") != std::string::npos,
               "the kernel is loaded at configuration");
    }
    Builder builder;
    const nvinfer1::DimsExprs flat[4] = {expressions({576}, builder)};
    const StderrText log;
    demand(dynamic(plugin).getOutputDimensions(0, flat, 4, builder).nbDims == 0, "flat features");
    demand(dynamic(plugin).getOutputDimensions(0, flat, 1, builder).nbDims == 0, "one input");
    demand(log.text().find("features has 1 dimensions") != std::string::npos, log.text());
    demand(log.text().find("it has 1 inputs") != std::string::npos, log.text());
}

nvinfer1::IPluginCreator &creator_of(void *library) {
    using GetCreators = nvinfer1::IPluginCreator *const *(*)(std::int32_t &);
    const auto get = reinterpret_cast<GetCreators>(dlsym(library, "getPluginCreators"));
    demand(get != nullptr, "getPluginCreators is not exported");
    std::int32_t count = 0;
    nvinfer1::IPluginCreator *const *const creators = get(count);
    demand(count == 1, "one creator");
    return *creators[0];
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

}  // namespace

void create_without_attributes(void *library) {
    const nvinfer1::PluginFieldCollection none{};
    demand(!Plugin(creator_of(library).createPlugin("node", &none)), "no attributes");
}

void check_plugin(void *library) {
    nvinfer1::IPluginCreator &creator = creator_of(library);
    demand(creator.getPluginName() == std::string("D2Prune") &&
               creator.getPluginVersion() == std::string("1") &&
               creator.getPluginNamespace() == std::string("d2export"),
           "one creator by name, version and namespace");
    demand(creator.getFieldNames()->nbFields == 7, "seven attributes");

    FieldList fields;
    fields.whole("keep", 64).real("alpha", 0.25F).whole("pivots_block", 1);
    const Plugin plugin(creator.createPlugin("node", fields.collection()));
    demand(plugin != nullptr, "a plugin from good attributes");
    check_shapes(plugin, 576, 64);
    check_shapes(plugin, 40, 40);
    check_shapes(plugin, -1, -1);
    FieldList share;
    share.whole("keep_permille", 250);
    check_shapes(Plugin(creator.createPlugin("node", share.collection())), 577, 144);
    check_shapes(Plugin(creator.createPlugin("node", share.collection())), 2, 1);

    demand(plugin->getNbOutputs() == 2, "two outputs");
    for (const auto type : feature_types()) {
        auto described = tensors(type);
        for (std::int32_t i = 0; i < 6; ++i) {
            const auto as = [&](nvinfer1::DataType other, nvinfer1::TensorFormat format) {
                auto changed = described;
                changed[static_cast<std::size_t>(i)].type = other;
                changed[static_cast<std::size_t>(i)].format = format;
                return dynamic(plugin).supportsFormatCombination(i, changed.data(), 4, 2);
            };
            const auto own = described[static_cast<std::size_t>(i)].type;
            demand(as(own, nvinfer1::TensorFormat::kLINEAR), "its own type, row-major");
            demand(!as(own, nvinfer1::TensorFormat::kCHW32), "no other layout");
            demand(!as(nvinfer1::DataType::kINT8, nvinfer1::TensorFormat::kLINEAR), "no int8");
        }
        const nvinfer1::DataType inputs[] = {type, nvinfer1::DataType::kFLOAT,
                                             nvinfer1::DataType::kFLOAT,
                                             nvinfer1::DataType::kFLOAT};
        demand(dynamic(plugin).getOutputDataType(0, inputs, 4) == type, "kept has the type");
        demand(dynamic(plugin).getOutputDataType(1, inputs, 4) == nvinfer1::DataType::kINT32,
               "indices are int32");
        demand(dynamic(plugin).getWorkspaceSize(described.data(), 4, described.data() + 4, 2) > 0,
               "a workspace");
    }

    check_limits(plugin);

    const Plugin clone(dynamic(plugin).clone());
    demand(clone.get() != plugin.get() && bytes_of(clone) == bytes_of(plugin), "a clone is equal");
    const auto bytes = bytes_of(plugin);
    demand(bytes_of(read(creator, bytes)) == bytes, "bytes to plugin to the same bytes");
    check_hostile_bytes(creator, bytes);

    for (BadFields &bad : bad_fields()) {
        const StderrText log;
        demand(!Plugin(creator.createPlugin("node", bad.list.collection())), bad.message);
        demand(log.text().find(bad.message) != std::string::npos,
               std::string("expected '") + bad.message + "' in: " + log.text());
    }
}

}  // namespace d2export::tests

#endif
