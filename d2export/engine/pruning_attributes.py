"""Prune a graph in memory otherwise than its file says. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from d2export.pruning.parameters import DOMAIN


def set_attributes(graph: onnx.GraphProto, attributes: Mapping[str, int]) -> None:
    """Give the pruning ops of a graph other attributes, in place.

    What the graph says of shapes goes: with another budget they are others.

    Args:
        attributes: whole numbers by name; an op takes those that it has.
    """
    for node in graph.node:
        if node.domain == DOMAIN:
            for attribute in node.attribute:
                if attribute.name in attributes:
                    attribute.i = attributes[attribute.name]
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
