// What TensorRT looks for in a plugin library.

#include "plugin_v2.h"
#include "plugin_v3.h"
#include "report.h"

#define D2EXPORT_ENTRY extern "C" __attribute__((visibility("default")))

D2EXPORT_ENTRY void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    d2export::tensorrt::set_logger_finder(finder);
}

#if NV_TENSORRT_MAJOR >= 10
D2EXPORT_ENTRY nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
    static d2export::tensorrt::CreatorV3 creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}
#else
D2EXPORT_ENTRY nvinfer1::IPluginCreator* const* getPluginCreators(std::int32_t& count) {
    static d2export::tensorrt::CreatorV2 creator;
    static nvinfer1::IPluginCreator* const creators[] = {&creator};
    count = 1;
    return creators;
}
#endif
