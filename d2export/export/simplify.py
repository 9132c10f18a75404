"""The traced graph, made readable.

Tracing spells every reshape as shape arithmetic around the number of tiles. Where one dimension
alone is unknown, ONNX has a shorter word for it: -1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes


def simplify(model: ir.Model) -> None:
    """Constant reshape targets and types; dead and identity nodes removed. May be repeated."""
    for node in model.graph:
        if node.op_type == "Reshape":
            _write_shape(model.graph, node)
        elif node.op_type == "CastLike":
            _write_type(model.graph, node)
        elif node.op_type == "Transpose" and _keeps_order(node):
            (given,) = node.inputs
            assert given is not None
            ir.convenience.replace_all_uses_with(node.outputs[0], given)
    _apply(model, passes.IdentityEliminationPass(), passes.RemoveUnusedNodesPass())


def merge_repeated(model: ir.Model) -> None:
    """Compute each value once.

    To be done after casting: what importance computes in float32 is then another value than what
    the layer beside it computes in half precision.
    """
    _apply(
        model,
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
    )


def _apply(model: ir.Model, *graph_passes: ir.passes.InPlacePass) -> None:
    for graph_pass in graph_passes:
        graph_pass(model)


def constant(graph: ir.Graph, before: ir.Node, value: npt.NDArray[Any]) -> ir.Value:
    """A `Constant` node with that value, in front of `before`."""
    node = ir.node("Constant", [], attributes={"value": ir.tensor(value)})
    graph.insert_before(before, node)
    result = node.outputs[0]
    result.dtype, result.shape = ir.DataType.from_numpy(value.dtype), ir.Shape(value.shape)
    return result


def _write_shape(graph: ir.Graph, reshape: ir.Node) -> None:
    target = reshape.inputs[1]
    assert target is not None
    producer = target.producer()
    if producer is None or producer.op_type != "Concat":
        return
    parts = [_known(part) for part in producer.inputs]
    if sum(part is None for part in parts) != 1 or any(part == [-1] for part in parts):
        return
    dimensions = [number for part in parts for number in ([-1] if part is None else part)]
    shape = constant(graph, reshape, np.array(dimensions, np.int64))
    reshape.replace_input_with(1, shape)


def _write_type(graph: ir.Graph, cast_like: ir.Node) -> None:
    """A constant cast like another value is a constant of that value's type."""
    number, like = cast_like.inputs
    tensor = ir.convenience.get_const_tensor(number) if number is not None else None
    if tensor is None or like is None or like.dtype is None:
        return
    typed = constant(graph, cast_like, tensor.numpy().astype(like.dtype.numpy()))
    ir.convenience.replace_all_uses_with(cast_like.outputs[0], typed)


def _keeps_order(transpose: ir.Node) -> bool:
    order = transpose.attributes["perm"].as_ints()
    return list(order) == sorted(order)


def _known(value: ir.Value | None) -> list[int] | None:
    """Numbers of a constant, None for anything computed. A computed part is one dimension."""
    if value is None or (tensor := ir.convenience.get_const_tensor(value)) is None:
        return None
    return [int(number) for number in tensor.numpy().flatten()]
