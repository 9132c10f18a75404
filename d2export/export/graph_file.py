"""A traced graph becomes a file: weights attached, cast, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from d2export.export.onnx_function import prune_functions
from d2export.export.precision import TYPES, cast_graph
from d2export.export.simplify import merge_repeated
from d2export.export.weights import PlacedWeights, attach
from d2export.pruning.parameters import DOMAIN

VISION, DECODER, PRUNE = "vision.onnx", "decoder.onnx", "prune.onnx"
MAX_IR_VERSION = 10  # what ONNX Runtime 1.20 still reads


def write_graph(
    model: ir.Model,
    path: Path,
    weights: PlacedWeights,
    constants: Mapping[str, npt.NDArray[Any]],
    precision: str,
) -> None:
    """Write a traced graph, in its precision, with the bodies of the ops it uses.

    Args:
        weights: where the values of its initializers lie, beside `path`.
        constants: values of the initializers that are no weights.
    """
    attach(model, weights, constants)
    cast_graph(model, TYPES[precision])
    merge_repeated(model)
    for node in model.graph:
        node.metadata_props.clear()  # the exporter's stack traces, with paths of this machine
    used = {node.op_type for node in model.graph if node.domain == DOMAIN}
    for proto in prune_functions(model.opset_imports[""], sorted(used)):
        model.functions[DOMAIN, proto.name, ""] = ir.serde.deserialize_function(proto)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    ir.save(model, path)
    _check(path)


def describe(path: Path) -> tuple[list[Value], list[Value]]:
    """Name, dtype and shape of a graph's inputs and of its outputs."""
    graph = onnx.load(path, load_external_data=False).graph
    return [_value(item) for item in graph.input], [_value(item) for item in graph.output]


Value = tuple[str, str, tuple[int | str, ...]]


def _value(item: onnx.ValueInfoProto) -> Value:
    tensor = item.type.tensor_type
    dtype = ir.DataType(tensor.elem_type)
    names = {ir.DataType.FLOAT: "float32"}
    shape = tuple(d.dim_param or int(d.dim_value) for d in tensor.shape.dim)
    return item.name, names.get(dtype, dtype.name.lower()), shape


def _check(path: Path) -> None:
    """The whole graph against the ONNX specification of its opset, but for the weights' bytes.

    The checker refuses files with more than one name, which a linked shard is; so it sees the
    graph without them.
    """
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.external_data:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(value)
    small = [tensor for tensor in model.graph.initializer if not tensor.external_data]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    onnx.checker.check_model(model, full_check=True)
