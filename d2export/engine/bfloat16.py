"""bfloat16 graphs on a CPU: every value is rounded to bfloat16, every operator computes in float32.

ONNX Runtime does this by itself for float16; for bfloat16 its CPU provider has no kernels and gives
up. Needs the onnx package.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper


def compute_in_float32(model: onnx.ModelProto) -> None:
    """Rewrite the graph in place: casts around each operator that works on bfloat16.

    Inputs and outputs become float32 too, because numpy has no bfloat16.
    """
    graph = model.graph
    narrow = {
        tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.BFLOAT16
    }
    nodes = [_narrow_input(value) for value in graph.input if _is_bfloat16(value)]
    narrow |= {node.output[0] for node in nodes}
    renamed = {node.input[0]: node.output[0] for node in nodes}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for node in graph.node:
        if node.op_type in ("Cast", "Constant"):
            nodes.append(node)
            if _result_type(node) == TensorProto.BFLOAT16:
                narrow.add(node.output[0])
            continue
        inputs = [name for name in dict.fromkeys(node.input) if name in narrow]
        if not inputs:
            nodes.append(node)
            continue
        result = node.output[0]
        for name in inputs:
            nodes.append(_cast(name, f"{name}->{result}.wide", TensorProto.FLOAT))
        wide = {name: f"{name}->{result}.wide" for name in inputs}
        node.input[:] = [wide.get(name, name) for name in node.input]
        if _is_predicate(node):
            nodes.append(node)
            continue
        results = list(node.output) if node.op_type == "Split" else [result]
        node.output[: len(results)] = [f"{name}.wide" for name in results]
        nodes.append(node)
        nodes += [_cast(f"{name}.wide", name, TensorProto.BFLOAT16) for name in results]
        narrow.update(results)
    for value in graph.output:
        if value.name in narrow:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            _rename(nodes, value.name, f"{value.name}.bfloat16")
            nodes.append(_cast(f"{value.name}.bfloat16", value.name, TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)


def _is_bfloat16(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.BFLOAT16)


def _narrow_input(value: onnx.ValueInfoProto) -> onnx.NodeProto:
    value.type.tensor_type.elem_type = TensorProto.FLOAT
    return _cast(value.name, f"{value.name}.bfloat16", TensorProto.BFLOAT16)


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], to=to)


def _result_type(node: onnx.NodeProto) -> int | None:
    for attribute in node.attribute:
        if attribute.name == "to":
            return int(attribute.i)
        if attribute.name == "value":
            return int(attribute.t.data_type)
    return None


def _is_predicate(node: onnx.NodeProto) -> bool:
    return node.op_type in {"Shape", "Size", "Equal", "Greater", "Less", "LessOrEqual", "IsNaN"}
