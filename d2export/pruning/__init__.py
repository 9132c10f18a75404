"""Which visual tokens stay. Needs numpy and torch only; knows neither ONNX nor TensorRT."""
