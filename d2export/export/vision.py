"""`PrunedVision` traced into an ONNX graph, without a single weight in memory.

The module is built and traced under fake tensors. What comes out is float32 throughout, with
initializers that have names and shapes but no values: `weights.py` says where those lie and
`precision.py` what type they are computed in.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import onnxscript
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from d2export.export.onnx_function import INPUTS, register_schema
from d2export.export.pruned_vision import PrunedVision
from d2export.export.torch_op import OVERLOAD
from d2export.models.presets import ModelSpec
from d2export.pruning.parameters import DOMAIN, OP_TYPE, OP_VERSION, PruneParameters
from d2export.pruning.prior import Prior

MAX_TILES = 64  # bound of the symbolic dimension, not of what a model is trained for
TRACED_OPSET = 18  # the oldest that torch exports; what the tower uses means the same in 17


def trace_vision(
    spec: ModelSpec,
    parameters: PruneParameters,
    *,
    importance: str,
    cls_layer: int,
    prior: Prior | None,
    opset: int,
) -> ir.Model:
    """The vision graph of `spec`: inputs and outputs as in `PrunedVision.forward`.

    The outputs of the layers are called `layers.0`, `layers.1`, ..., the inputs of the op
    `features`, `importance`, `prior`.
    """
    register_schema()
    vision = spec.vision
    tiles = torch.export.Dim("tiles", min=1, max=MAX_TILES)
    with FakeTensorMode(allow_non_fake_inputs=True), _quiet_exporter():
        module = PrunedVision(spec, parameters, importance, cls_layer, prior).eval()
        size = vision.image.size
        arguments = [torch.empty(3, 3, size, size), torch.empty(3 * vision.tokens_per_tile, 2)]
        dimensions: dict[str, Any] = {
            "pixel_values": {0: tiles},
            "token_grid": {0: vision.tokens_per_tile * tiles},
        }
        if importance == "text":
            arguments.append(torch.empty(7, spec.text.hidden))
            dimensions["prompt_embeds"] = {0: torch.export.Dim("prompt_length", min=1)}
        program = torch.onnx.export(
            module,
            tuple(arguments),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=max(opset, TRACED_OPSET),
            dynamic_shapes=dimensions,
            input_names=list(dimensions),
            output_names=["image_embeds", "kept_indices"],
            custom_translation_table={OVERLOAD: _prune_node},
        )
    assert program is not None
    model = program.model
    model.graph.name = "vision"
    model.producer_name, model.producer_version = "d2export", None
    model.opset_imports[""] = opset
    _name_values(model.graph, vision.used_layers)
    _name_dimensions(model.graph, parameters, vision.tokens_per_tile)
    return model


def layer_names(spec: ModelSpec) -> list[str]:
    """Values of the graph that can be compared with PyTorch one by one, in order."""
    return [f"layers.{index}" for index in range(spec.vision.used_layers)] + [
        "features",
        "importance",
    ]


def _prune_node(*inputs: Any, **attributes: Any) -> Any:
    names = list(PruneParameters(keep=1).attributes())
    positional = dict(zip(names, inputs[len(INPUTS) :], strict=False))
    operator = onnxscript.values.Opset(DOMAIN, OP_VERSION)
    return getattr(operator, OP_TYPE)(*inputs[: len(INPUTS)], **positional, **attributes)


def _name_values(graph: ir.Graph, layers: int) -> None:
    last_of_layer: dict[str, ir.Value] = {}
    for node in graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
        for index in range(layers):
            if f"'model.tower.layers.{index}'" in scopes and "'cls_attention'" not in scopes:
                last_of_layer[f"layers.{index}"] = node.outputs[0]
        if node.op_type == OP_TYPE:
            for name, value in zip(INPUTS[:3], node.inputs[:3], strict=True):
                assert value is not None
                value.name = name
    for name, value in last_of_layer.items():
        value.name = name


def _name_dimensions(graph: ir.Graph, parameters: PruneParameters, tokens_per_tile: int) -> None:
    """Plain names instead of the tracer's expressions; a number where there is but one."""
    static = 0 < parameters.keep <= tokens_per_tile  # there is at least one tile
    kept: int | str = parameters.keep if static else "kept"
    grid = next(value for value in graph.inputs if value.name == "token_grid")
    grid.shape = ir.Shape(["tokens", 2])
    for value in graph.outputs:
        assert value.shape is not None
        value.shape = ir.Shape([kept, *list(value.shape)[1:]])


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns of torchvision, which is not needed, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
