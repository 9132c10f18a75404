"""Run a bundle. Needs neither torch nor onnx."""
