"""The part of a graph that some values inside it need. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Sequence

import onnx


def keep_only(graph: onnx.GraphProto, outputs: Sequence[str], given: Sequence[str] = ()) -> None:
    """Rewrite a graph without subgraphs in place: `outputs` come out of it, and nothing else.

    Nodes, weights and inputs that they do not need are gone, so that nobody runs, loads or asks
    for them.

    Args:
        given: values inside the graph that become inputs, instead of what computes them.
    """
    needed = set(outputs)
    nodes = []
    for node in reversed(graph.node):  # a node stands behind those it needs
        if needed.intersection(node.output).difference(given):
            needed.update(node.input)
            nodes.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    described = {value.name: value for value in (*graph.value_info, *graph.output)}
    inputs = [value for value in graph.input if value.name in needed]
    inputs += [described[name] for name in given if name in needed]
    inside = [value for value in graph.value_info if value.name not in given]
    for field in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    graph.value_info.extend(inside)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
