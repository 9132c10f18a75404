"""What TensorRT calls the layers of the plugin: as the ONNX graph calls its nodes.

Field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

from collections.abc import Collection

from d2export.engine.plugin import OPS
from d2export.engine.protobuf import Message

MODEL_GRAPH, GRAPH_NODES = 7, 1
NODE_NAME, OP_TYPE = 3, 4


def plugin_nodes(model: bytes, ops: Collection[str] = OPS) -> tuple[str, ...]:
    """Names of the nodes of these types in an ONNX file that was made for TensorRT's parser."""
    graphs = map(Message, Message(model).all(MODEL_GRAPH))
    nodes = [Message(node) for graph in graphs for node in graph.all(GRAPH_NODES)]
    return tuple(node.text(NODE_NAME) for node in nodes if node.text(OP_TYPE) in ops)
