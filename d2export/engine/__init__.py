"""ONNX to engine: targets, TensorRT, ONNX Runtime."""
