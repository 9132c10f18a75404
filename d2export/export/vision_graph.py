"""The files of a vision graph: traced, simplified, cast, its weights beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from d2export.export.onnx_function import prune_function, prune_model
from d2export.export.precision import TYPES, cast_graph
from d2export.export.simplify import merge_repeated, simplify
from d2export.export.vision import trace_vision
from d2export.export.weights import PlacedWeights, attach, place
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.pruning.parameters import DOMAIN, OP_TYPE, PruneParameters
from d2export.pruning.prior import Prior

VISION, PRUNE = "vision.onnx", "prune.onnx"


def write_graphs(
    folder: Path,
    spec: ModelSpec,
    refs: Mapping[str, TensorRef],
    parameters: PruneParameters,
    *,
    importance: str,
    cls_layer: int,
    prior: Prior | None,
    precision: str,
    opset: int,
    copy_weights: bool,
) -> PlacedWeights:
    """Write `vision.onnx`, `prune.onnx` and the weights into `folder`.

    Args:
        refs: where each weight of the model lies, by canonical name.

    Raises:
        OutputError: the weights cannot be written.
    """
    narrow = TYPES[precision]
    model = trace_vision(
        spec, parameters, importance=importance, cls_layer=cls_layer, prior=prior, opset=opset
    )
    simplify(model)
    weights = place(refs, folder, copy=copy_weights)
    attach(model, weights, prior)
    cast_graph(model, narrow)
    merge_repeated(model)
    for node in model.graph:
        node.metadata_props.clear()  # the exporter's stack traces, with paths of this machine
    function = ir.serde.deserialize_function(prune_function(opset))
    model.functions[DOMAIN, OP_TYPE, ""] = function
    model.ir_version = min(model.ir_version, 10)  # what ONNX Runtime 1.20 still reads
    ir.save(model, folder / VISION)
    _check(folder / VISION)
    heads = importance == "cls"
    onnx.save(prune_model(parameters, opset, int(narrow), heads=heads), folder / PRUNE)
    return weights


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
