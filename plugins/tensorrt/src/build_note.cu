// What this library was compiled for, as text in its file. Who looks for it need not load the
// library, which a misfit could make impossible: d2export/engine/plugin_build.py.

#include <NvInferVersion.h>

#define D2EXPORT_TEXT(...) #__VA_ARGS__
#define D2EXPORT_VALUE(...) D2EXPORT_TEXT(__VA_ARGS__)

extern "C" __attribute__((used)) const char d2export_plugin_build[] =
    "d2export plugin: TensorRT " D2EXPORT_VALUE(NV_TENSORRT_MAJOR) "." D2EXPORT_VALUE(
        NV_TENSORRT_MINOR) "." D2EXPORT_VALUE(NV_TENSORRT_PATCH) ", CUDA " D2EXPORT_VALUE(
        __CUDACC_VER_MAJOR__) "." D2EXPORT_VALUE(__CUDACC_VER_MINOR__) ", architectures "
    D2EXPORT_VALUE(__CUDA_ARCH_LIST__);
