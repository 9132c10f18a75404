// All that the ONNX parser of TensorRT 8.6 needs of libnvinfer_plugin, which itself needs cuBLAS
// and cuDNN: the function that registers TensorRT's own plugins. No graph of d2export uses one.
extern "C" __attribute__((visibility("default"))) bool initLibNvInferPlugins(void*, const char*) {
    return true;
}
