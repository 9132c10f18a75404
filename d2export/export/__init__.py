"""torch to ONNX: the op, the vision graph, weights, precision. Needs torch and onnx."""
