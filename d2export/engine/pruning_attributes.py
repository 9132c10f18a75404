"""Prune a graph in memory otherwise than its file says. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import helper

from d2export.errors import BundleError
from d2export.pruning.parameters import DOMAIN, POSITIONS_OP_TYPE

PREFIX = "d2export.budget."  # of the names of new values


def set_attributes(graph: onnx.GraphProto, attributes: Mapping[str, int]) -> None:
    """Give the pruning ops of a graph other attributes, in place.

    What the graph says of shapes goes: with another budget they are others.

    Args:
        attributes: whole numbers by name; an op takes those that it has.

    Raises:
        BundleError: a decoder's graph does not count the tokens that survive as expected.
    """
    for node in graph.node:
        if node.domain == DOMAIN:
            for attribute in node.attribute:
                if attribute.name in attributes:
                    attribute.i = attributes[attribute.name]
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type == POSITIONS_OP_TYPE:
            _count_anew(graph, node, attributes["keep"], attributes["keep_permille"])
            break
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _count_anew(graph: onnx.GraphProto, op: onnx.NodeProto, keep: int, permille: int) -> None:
    """Replace what a decoder's graph computes from shapes: `Budget.kept_of`, for its mask.

    That is the graph's only minimum: the number of visual tokens, or what the budget allows.
    """
    minima = [at for at, node in enumerate(graph.node) if node.op_type == "Min"]
    if len(minima) != 1:
        raise BundleError(
            f"the decoder's graph has {len(minima)} minima of shapes, expected 1, so it cannot be "
            "told to keep another number of tokens",
            "Build the bundle again, with another --keep than all.",
        )
    (at,) = minima
    visual, lengths = op.input[4:6]
    nodes = [*_budget(visual, lengths, keep, permille, graph.node[at].output[0])]
    rest = [*graph.node]
    del graph.node[:]
    graph.node.extend([*rest[:at], *nodes, *rest[at + 1 :]])


def _budget(
    visual: str, lengths: str, keep: int, permille: int, result: str
) -> Iterator[onnx.NodeProto]:
    """Nodes from the two inputs that are counted to the scalar `result`."""

    def name(of: str) -> str:
        return PREFIX + of

    def constant(of: str, value: int) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name(of)], value_ints=[value])

    def node(op_type: str, inputs: list[str], output: str) -> onnx.NodeProto:
        return helper.make_node(op_type, inputs, [output])

    yield node("Shape", [visual], name("tokens"))
    yield node("Shape", [lengths], name("images"))
    if keep:
        yield constant("keep", keep)
        yield node("Mul", [name("images"), name("keep")], name("wanted"))
    else:
        yield constant("permille", permille)
        yield constant("thousand", 1000)
        yield node("Mul", [name("tokens"), name("permille")], name("thousandths"))
        yield node("Div", [name("thousandths"), name("thousand")], name("share"))
        yield node("Max", [name("images"), name("share")], name("wanted"))
    yield node("Min", [name("tokens"), name("wanted")], name("kept"))
    yield node("Squeeze", [name("kept")], result)
