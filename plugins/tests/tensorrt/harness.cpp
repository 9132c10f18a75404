// Opens the plugin library as TensorRT does and calls everything but enqueue:
// no TensorRT library, no GPU.
//
//     harness libd2export_plugin.so
//
// Messages go to stderr here, except where a stand-in for TensorRT has a
// logger.

#include "harness.h"

#include <dlfcn.h>
#include <unistd.h>

#include "stand_in.h"
#include "stderr_text.h"

namespace d2export::tests {

std::vector<nvinfer1::PluginTensorDesc> tensors(nvinfer1::DataType features, int tokens,
                                                int channels) {
    const auto one = [](nvinfer1::DataType type, nvinfer1::Dims dims) {
        nvinfer1::PluginTensorDesc tensor{};
        tensor.type = type;
        tensor.format = nvinfer1::TensorFormat::kLINEAR;
        tensor.dims = dims;
        return tensor;
    };
    constexpr auto kFloat = nvinfer1::DataType::kFLOAT;
    return {one(features, extents({2, tokens, channels})),
            one(kFloat, extents({2, 16, tokens})),
            one(kFloat, extents({tokens})),
            one(kFloat, extents({tokens, 2})),
            one(features, extents({2, 64, channels})),
            one(nvinfer1::DataType::kINT32, extents({2, 64}))};
}

std::vector<nvinfer1::DataType> feature_types() {
    return {
        nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kHALF,
#if NV_TENSORRT_MAJOR >= 10
            nvinfer1::DataType::kBF16
#endif
    };
}

std::vector<BadFields> bad_fields() {
    static const float real = 0.5F;
    static const std::int32_t whole[2] = {1, 2};
    using nvinfer1::PluginFieldType;
    std::vector<BadFields> bad;
    const auto add = [&bad](const char *message) -> FieldList & {
        bad.push_back({FieldList(), message});
        return bad.back().list;
    };
    add("keep=0 and keep_permille=0");
    add("keep=64 and keep_permille=250").whole("keep", 64).whole("keep_permille", 250);
    add("keep=-3").whole("keep", -3);
    add("keep_permille is 1001").whole("keep_permille", 1001);
    add("alpha is 1.5").whole("keep", 4).real("alpha", 1.5F);
    add("pivot_ratio is").whole("keep", 4).real("pivot_ratio", -1.0F);
    add("theta is").whole("keep", 4).real("theta", __builtin_inff());
    add("eps is").whole("keep", 4).real("eps", -1.0F);
    add("there is no attribute 'kep'").whole("kep", 4);
    add("attribute keep is float32, expected int32").real("keep", 4.0F);
    add("attribute alpha is int32, expected float32").whole("keep", 4).whole("alpha", 1);
    add("attribute keep has 2 values").field({"keep", whole, PluginFieldType::kINT32, 2});
    add("attribute keep has 0 values").field({"keep", whole, PluginFieldType::kINT32, 0});
    add("attribute keep has -1 values").field({"keep", whole, PluginFieldType::kINT32, -1});
    add("attribute alpha has 0 values").field({"alpha", nullptr, PluginFieldType::kFLOAT32, 1});
    add("field type").field({"theta", &real, PluginFieldType::kCHAR, 1});
    add("there is no attribute ''").field({nullptr, &real, PluginFieldType::kFLOAT32, 1});
    return bad;
}

std::vector<BadExtents> bad_extents() {
    return {{0, extents({2, 576}), "features has shape [2, 576]"},
            {1, extents({576}), "importance has shape [576]"},
            {1, extents({2, 16, 575}), "importance has shape [2, 16, 575]"},
            {1, extents({2, 0, 576}), "importance has shape [2, 0, 576]"},
            {2, extents({577}), "prior has shape [577]"},
            {3, extents({576, 3}), "grid has shape [576, 3]"},
            {0, extents({2, 576, 9000}), "9000 channels, expected at most 8192"}};
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
    demand(count == 2, "usage: harness libd2export_plugin.so");
    setenv("CUDA_VISIBLE_DEVICES", "", 1);  // the same everywhere
    void *const library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    demand(library != nullptr, std::string("dlopen: ") + (library ? "" : dlerror()));
    d2export::tests::check_plugin(library);
    d2export::tests::check_logger(library);
    std::printf("PASSED with the headers of TensorRT %d.%d\n", NV_TENSORRT_MAJOR,
                NV_TENSORRT_MINOR);
}
