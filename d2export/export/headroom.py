"""Room for large activations in float16: the second product of each MLP computes 1/64 of itself.

A few channels of a few tokens are thousands of times larger than the rest (arXiv 2402.17762: 2,622
in Llama 2 7B). This product writes them into the residual stream, which is float32; its own result
would end at 65,504. So it reads 1/64, and what it gives is multiplied by 64 in float32. Both are
powers of two, and round nothing but what lies below 2^-8 of what it reads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

WEIGHTS = (".mlp.down.weight",)
ROOM = 64
FACTOR = ".headroom"  # how the name of the constant ends that is multiplied in float32


def make_room(model: ir.Model) -> None:
    """Scale what these products read, and back what they give, in a float32 graph."""
    graph = model.graph
    for node in list(graph):
        if node.op_type != "MatMul" or not _is_of(node.inputs[1], WEIGHTS):
            continue
        read = node.inputs[0]
        assert read is not None
        maker = read.producer()
        if maker is not None and maker.op_type == "Mul":  # of a gate: it could overflow itself
            _scale_input(graph, maker, 1)
        else:
            _scale_input(graph, node, 0)
        whole = node.outputs[0]
        uses = list(whole.uses())
        back = _product(graph, node, whole, ROOM, f"{whole.name}{FACTOR}", after=True)
        for reader, index in uses:
            reader.replace_input_with(index, back)


def _scale_input(graph: ir.Graph, node: ir.Node, index: int) -> None:
    value = node.inputs[index]
    assert value is not None
    name = f"{value.name}.part"
    node.replace_input_with(index, _product(graph, node, value, 1 / ROOM, name, after=False))


def _product(
    graph: ir.Graph, near: ir.Node, value: ir.Value, factor: float, name: str, *, after: bool
) -> ir.Value:
    """`value * factor`, computed beside a node."""
    number = ir.tensor(np.float32(factor), name=name)
    constant = ir.node("Constant", [], attributes={"value": number})
    constant.outputs[0].name = name
    constant.outputs[0].dtype = ir.DataType.FLOAT
    product = ir.node("Mul", [value, constant.outputs[0]])
    result = product.outputs[0]
    result.name, result.shape = f"{name}.product", value.shape
    result.dtype = value.dtype or ir.DataType.FLOAT
    if after:
        graph.insert_after(near, [constant, product])
    else:
        graph.insert_before(near, [constant, product])
    return result


def _is_of(value: ir.Value | None, endings: tuple[str, ...]) -> bool:
    """Whether it is such a weight, or one with its axes moved."""
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type == "Transpose":
        value = maker.inputs[0]
    return value is not None and value.is_initializer() and (value.name or "").endswith(endings)
