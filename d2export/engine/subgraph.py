"""The part of a graph that some values inside it need. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Sequence

import onnx


def keep_only(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Rewrite a graph without subgraphs in place: `outputs` come out of it, and nothing else.

    Nodes, weights and inputs that they do not need are gone, so that nobody runs, loads or asks
    for them.
    """
    needed = set(outputs)
    nodes = []
    for node in reversed(graph.node):  # a node stands behind those it needs
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    inputs = [value for value in graph.input if value.name in needed]
    for field in (graph.node, graph.initializer, graph.input, graph.output):
        del field[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
