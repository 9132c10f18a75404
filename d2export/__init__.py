"""Export multimodal LLMs to ONNX and TensorRT with visual-token pruning inside the graph."""

__version__ = "0.1.0.dev0"
