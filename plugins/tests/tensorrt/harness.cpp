// Opens the plugin library as TensorRT does and calls everything but enqueue:
// no TensorRT library, no GPU. Then enqueue of a library whose GPU is the host.
//
//     harness libd2export_plugin.so libacted_plugin.so
//
// Messages go to stderr here, except where a stand-in for TensorRT has a
// logger.

#include "harness.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>

#include "stand_in.h"
#include "stderr_text.h"

namespace d2export::tests {

const std::vector<Op> &ops() {
    static const std::vector<Op> all{
        {"D2Prune",
         4,
         2,
         {"keep", "keep_permille", "pivot_ratio", "alpha", "theta", "eps", "pivots_block"}},
        {"MaxMinPrune", 1, 2, {"keep", "keep_permille"}},
        {"DppPrune", 2, 2, {"keep", "keep_permille"}},
        {"DeduplicatePrune", 2, 2, {"keep", "keep_permille", "important_ratio"}},
        {"D2PrunePositions",
         6,
         1,
         {"keep", "keep_permille", "pivot_ratio", "alpha", "theta", "eps", "pivots_block"}}};
    return all;
}

std::vector<std::string> names_of(const nvinfer1::PluginFieldCollection &fields) {
    std::vector<std::string> names;
    for (std::int32_t i = 0; i < fields.nbFields; ++i) {
        names.emplace_back(fields.fields[i].name);
    }
    return names;
}

bool is_real(const std::string &attribute) {
    return attribute.rfind("keep", 0) != 0 && attribute != "pivots_block";
}

std::vector<nvinfer1::PluginTensorDesc> tensors(const Op &op, nvinfer1::DataType features,
                                                int tokens, int channels, int kept) {
    const auto one = [](nvinfer1::DataType type, nvinfer1::Dims dims) {
        nvinfer1::PluginTensorDesc tensor{};
        tensor.type = type;
        tensor.format = nvinfer1::TensorFormat::kLINEAR;
        tensor.dims = dims;
        return tensor;
    };
    constexpr auto kFloat = nvinfer1::DataType::kFLOAT;
    if (op.prompt()) {
        const int length = tokens + kText;
        const auto whole = whole_types().back();
        return {one(features, extents({1, length, channels})),
                one(kFloat, extents({1, 16, length})),
                one(kFloat, extents({tokens})),
                one(kFloat, extents({tokens, 2})),
                one(whole, extents({tokens})),
                one(whole, extents({kImages})),
                one(nvinfer1::DataType::kINT32, extents({kText + kImages * kept}))};
    }
    std::vector<nvinfer1::PluginTensorDesc> described{
        one(features, extents({2, tokens, channels})), one(kFloat, extents({2, 16, tokens})),
        one(kFloat, extents({tokens})), one(kFloat, extents({tokens, 2}))};
    described.resize(static_cast<std::size_t>(op.inputs));
    described.push_back(one(features, extents({2, kept, channels})));
    described.push_back(one(nvinfer1::DataType::kINT32, extents({2, kept})));
    return described;
}

std::vector<nvinfer1::DimsExprs> symbols(const Op &op, int tokens, Builder &builder) {
    if (op.prompt()) {
        const int length = tokens < 0 ? -1 : tokens + kText;
        return {expressions({1, length, 1024}, builder), expressions({1, 16, length}, builder),
                expressions({tokens}, builder),          expressions({tokens, 2}, builder),
                expressions({tokens}, builder),          expressions({kImages}, builder),
                expressions({tokens}, builder)};
    }
    return {expressions({2, tokens, 1024}, builder), expressions({2, 16, tokens}, builder),
            expressions({tokens}, builder), expressions({tokens, 2}, builder),
            expressions({tokens}, builder)};
}

void check_outputs(const Op &op, const nvinfer1::DimsExprs *outputs, int kept) {
    const auto extent = [outputs](std::size_t output, int axis) {
        return outputs[output].d[axis]->getConstantValue();
    };
    if (op.prompt()) {
        demand(outputs[0].nbDims == 1, "rank of positions");
        demand(extent(0, 0) == (kept < 0 ? -1 : kText + kept), "number of positions");
        return;
    }
    demand(outputs[0].nbDims == 3 && outputs[1].nbDims == 2, "ranks of the outputs");
    demand(extent(0, 0) == 2 && extent(0, 2) == 1024, "batch and channels of kept");
    demand(extent(0, 1) == kept, "tokens of kept");
    demand(extent(1, 0) == 2 && extent(1, 1) == kept, "shape of indices");
}

std::vector<nvinfer1::DataType> whole_types() {
    return {
        nvinfer1::DataType::kINT32,
#if NV_TENSORRT_MAJOR >= 10
            nvinfer1::DataType::kINT64,
#endif
    };
}

std::vector<nvinfer1::DataType> feature_types() {
    return {
        nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kHALF,
#if NV_TENSORRT_MAJOR >= 10
            nvinfer1::DataType::kBF16
#endif
    };
}

std::vector<BadFields> bad_fields(const Op &op) {
    static const float real = 0.5F;
    static const std::int32_t whole[2] = {1, 2};
    using nvinfer1::PluginFieldType;
    std::vector<BadFields> bad;
    const auto add = [&](const std::string &message) -> FieldList & {
        bad.push_back({FieldList(), std::string(op.name) + ": " + message});
        return bad.back().list;
    };
    add("keep=0 and keep_permille=0");
    add("keep=64 and keep_permille=250").whole("keep", 64).whole("keep_permille", 250);
    add("keep=-3").whole("keep", -3);
    add("keep_permille is 1001").whole("keep_permille", 1001);
    add("attribute keep is float32, expected int32").real("keep", 4.0F);
    add("attribute keep has 2 values").field({"keep", whole, PluginFieldType::kINT32, 2});
    add("attribute keep has 0 values").field({"keep", whole, PluginFieldType::kINT32, 0});
    add("attribute keep has -1 values").field({"keep", whole, PluginFieldType::kINT32, -1});
    add("attribute keep has 0 values").field({"keep", nullptr, PluginFieldType::kINT32, 1});
    add("there is no attribute ''").field({nullptr, &real, PluginFieldType::kFLOAT32, 1});

    std::string names = op.attributes[0];
    for (std::size_t i = 1; i < op.attributes.size(); ++i) {
        names += (i + 1 < op.attributes.size() ? ", " : " or ") + op.attributes[i];
    }
    add("there is no attribute 'kep'; expected " + names).whole("kep", 4);

    // Floats, and what each may not be.
    struct Limit {
        const char *attribute;
        float beyond;
        const char *message;
    };
    for (const Limit &limit :
         {Limit{"alpha", 1.5F, "alpha is 1.5"}, Limit{"pivot_ratio", -1.0F, "pivot_ratio is"},
          Limit{"theta", __builtin_inff(), "theta is"}, Limit{"eps", -1.0F, "eps is"},
          Limit{"important_ratio", 1.5F, "important_ratio is 1.5"}}) {
        const std::string name = limit.attribute;
        const bool has =
            std::find(op.attributes.begin(), op.attributes.end(), name) != op.attributes.end();
        if (!has) {
            add("there is no attribute '" + name).real(limit.attribute, 0.5F);
            continue;
        }
        const auto field = [&](const void *data, PluginFieldType type) {
            return nvinfer1::PluginField{limit.attribute, data, type, 1};
        };
        add(limit.message).whole("keep", 4).real(limit.attribute, limit.beyond);
        add("attribute " + name + " is int32, expected float32").whole(limit.attribute, 1);
        add("attribute " + name + " has 0 values").field(field(nullptr, PluginFieldType::kFLOAT32));
        add("attribute " + name + " is field type").field(field(&real, PluginFieldType::kCHAR));
    }
    return bad;
}

std::vector<BadExtents> bad_extents(const Op &op) {
    if (op.prompt()) {
        return {{0, extents({576, 1024}), "hidden_states has shape [576, 1024]"},
                {0, extents({2, 611, 1024}), "hidden_states has shape [2, 611, 1024]"},
                {1, extents({611}), "importance has shape [611]"},
                {1, extents({1, 16, 610}), "importance has shape [1, 16, 610]"},
                {1, extents({1, 0, 611}), "importance has shape [1, 0, 611]"},
                {2, extents({577}), "prior has shape [577]"},
                {3, extents({576, 3}), "grid has shape [576, 3]"},
                {4, extents({576, 1}), "visual_positions has shape [576, 1]"},
                {4, extents({612}), "visual_positions has shape [612]"},
                {5, extents({2, 1}), "image_lengths has shape [2, 1]"},
                {0, extents({1, 611, 9000}), "9000 channels, expected at most 8192"}};
    }
    std::vector<BadExtents> bad{
        {0, extents({2, 576}), "features has shape [2, 576]"},
        {1, extents({576}), "importance has shape [576]"},
        {1, extents({2, 16, 575}), "importance has shape [2, 16, 575]"},
        {1, extents({2, 0, 576}), "importance has shape [2, 0, 576]"},
        {2, extents({577}), "prior has shape [577]"},
        {3, extents({576, 3}), "grid has shape [576, 3]"},
        {0, extents({2, 576, 9000}), "9000 channels, expected at most 8192"}};
    const auto has = [&op](const BadExtents &extents) {
        return extents.tensor < static_cast<std::size_t>(op.inputs);
    };
    bad.erase(std::partition(bad.begin(), bad.end(), has), bad.end());
    if (op.inputs == 1) {  // nothing else disagrees; D2Prune takes more pictures
        bad.push_back({0, extents({4000, 576, 8}), "576 tokens, expected at most 3236 of them"});
    }
    return bad;
}

namespace {

// Through TensorRT's logger, unless it is of another major version: then to
// stderr.
void check_logger(void *library) {
    using SetFinder = void (*)(nvinfer1::ILoggerFinder *);
    const auto set_finder = reinterpret_cast<SetFinder>(dlsym(library, "setLoggerFinder"));
    demand(set_finder != nullptr, "setLoggerFinder is not exported");
    set_finder(logger_finder());
    const std::string message = "expected exactly one of them above 0";
    for (const std::int32_t foreign : {7203, 8000, 90000, 109999, 119999, 120000}) {
        const std::int32_t major = foreign < 90000 ? foreign / 1000 : foreign / 10000;
        claim_version(foreign);
        const StderrText log;
        create_without_attributes(library);
        const bool ours = major == NV_TENSORRT_MAJOR;
        demand((take_errors().find(message) != std::string::npos) == ours,
               "the logger of TensorRT " + std::to_string(major));
        demand((log.text().find(message) == std::string::npos) == ours,
               "stderr under TensorRT " + std::to_string(major));
    }
    claim_version(NV_TENSORRT_VERSION);
    create_without_attributes(library);
    demand(take_errors().find(message) != std::string::npos, "the logger of our version");
    set_finder(nullptr);
}

}  // namespace
}  // namespace d2export::tests

int main(int count, char **arguments) {
    using d2export::tests::demand;
    demand(count == 3, "usage: harness libd2export_plugin.so libacted_plugin.so");
    setenv("CUDA_VISIBLE_DEVICES", "", 1);  // the same everywhere
    void *libraries[2] = {};
    for (int i = 0; i < 2; ++i) {
        libraries[i] = dlopen(arguments[i + 1], RTLD_NOW | RTLD_LOCAL);
        demand(libraries[i] != nullptr, std::string("dlopen: ") + (libraries[i] ? "" : dlerror()));
    }
    d2export::tests::check_plugins(libraries[0]);
    d2export::tests::check_logger(libraries[0]);
    d2export::tests::check_enqueue(libraries[1]);
    std::printf("PASSED with the headers of TensorRT %d.%d\n", NV_TENSORRT_MAJOR,
                NV_TENSORRT_MINOR);
}
