// What TensorRT looks for in a plugin library.

#include <iterator>

#include "plugin_v2.h"
#include "plugin_v3.h"
#include "report.h"

#define D2EXPORT_ENTRY extern "C" __attribute__((visibility("default")))

D2EXPORT_ENTRY void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    d2export::tensorrt::set_logger_finder(finder);
}

namespace d2export::tensorrt {
namespace {

template <typename Creator>
Creator* only() noexcept {
    static Creator creator;
    return &creator;
}

}  // namespace
}  // namespace d2export::tensorrt

// One creator for each op.
#if NV_TENSORRT_MAJOR >= 10
D2EXPORT_ENTRY nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
    using namespace d2export;
#define D2EXPORT_CREATOR(Attributes) tensorrt::only<tensorrt::CreatorV3<Attributes>>(),
    static nvinfer1::IPluginCreatorInterface* const creators[] = {
        D2EXPORT_EACH_OP(D2EXPORT_CREATOR)};
#else
D2EXPORT_ENTRY nvinfer1::IPluginCreator* const* getPluginCreators(std::int32_t& count) {
    using namespace d2export;
#define D2EXPORT_CREATOR(Attributes) tensorrt::only<tensorrt::CreatorV2<Attributes>>(),
    static nvinfer1::IPluginCreator* const creators[] = {D2EXPORT_EACH_OP(D2EXPORT_CREATOR)};
#endif
    count = static_cast<std::int32_t>(std::size(creators));
    return creators;
}
