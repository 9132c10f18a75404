"""The vision graphs, traced: with the op behind the projector, or without it for scope `vlm`."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from d2export.export.ops import PADDED_OP_TYPE
from d2export.export.pruned_vision import PrunedVision, WholeVision
from d2export.export.tracing import last_values, trace
from d2export.models.presets import ModelSpec
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.rules import RULES

MAX_TILES = 64  # bound of the symbolic dimension, not of what a model is trained for


def trace_vision(spec: ModelSpec, plan: Plan, *, prior: Prior | None, opset: int) -> ir.Model:
    """The vision graph of `spec`: inputs and outputs as in `PrunedVision.forward`.

    The outputs of the layers are called `layers.0`, `layers.1`, ..., the inputs of the op
    `features`, and `importance` and `prior` where it has them.
    """
    vision = spec.vision
    rule = RULES[plan.selector.rule]

    def make() -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
        module = PrunedVision(spec, plan, prior)
        arguments, dimensions, tiles = _pixels(spec)
        arguments["token_grid"] = torch.empty(3 * vision.tokens_per_tile, 2)
        dimensions["token_grid"] = {0: vision.tokens_per_tile * tiles}
        if plan.importance == "text":
            arguments["prompt_embeds"] = torch.empty(7, spec.text.hidden)
            dimensions["prompt_embeds"] = {0: torch.export.Dim("prompt_length", min=1)}
        return module, arguments, dimensions

    model = trace(make, "vision", opset)
    _name_layers(model.graph, vision.used_layers)
    op_type = PADDED_OP_TYPE if plan.padded else rule.op_type
    op = next(node for node in model.graph if node.op_type == op_type)
    for name, value in zip(("features", *rule.inputs), op.inputs, strict=True):
        assert value is not None
        if name != "grid":  # an input of the graph, or a part of it
            value.name = name
    _name_outputs(model.graph, "image_embeds", "kept_indices", *(["count"] if plan.padded else []))
    _name_dimensions(model.graph, plan, vision.tokens_per_tile)
    return model


def trace_whole_vision(spec: ModelSpec, opset: int) -> ir.Model:
    """The vision graph of `spec` without pruning: inputs and outputs as in `WholeVision.forward`.

    The outputs of the layers are called `layers.0`, `layers.1`, ...
    """

    def make() -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
        arguments, dimensions, _ = _pixels(spec)
        return WholeVision(spec), arguments, dimensions

    model = trace(make, "vision", opset)
    _name_layers(model.graph, spec.vision.used_layers)
    _name_outputs(model.graph, "image_embeds")
    model.graph.outputs[0].shape = ir.Shape(["tokens", spec.text.hidden])
    return model


def layer_names(spec: ModelSpec, plan: Plan) -> list[str]:
    """Values of the vision graph that can be compared with PyTorch one by one, in order."""
    layers = [f"layers.{index}" for index in range(spec.vision.used_layers)]
    if not plan.in_vision:
        return layers
    reads = [name for name in RULES[plan.selector.rule].inputs if name == "importance"]
    return [*layers, "features", *reads]


def _pixels(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any], Any]:
    tiles = torch.export.Dim("tiles", min=1, max=MAX_TILES)
    size = spec.vision.image.size
    return {"pixel_values": torch.empty(3, 3, size, size)}, {"pixel_values": {0: tiles}}, tiles


def _name_layers(graph: ir.Graph, layers: int) -> None:
    scopes = {f"model.tower.layers.{index}": f"layers.{index}" for index in range(layers)}
    for name, value in last_values(graph, scopes, without="cls_attention").items():
        value.name = name


def _name_outputs(graph: ir.Graph, *names: str) -> None:
    for name, value in zip(names, graph.outputs, strict=True):
        value.name = name


def _name_dimensions(graph: ir.Graph, plan: Plan, tokens_per_tile: int) -> None:
    """Plain names instead of the tracer's expressions; a number where there is but one."""
    kept: int | str = "kept"
    if plan.padded:
        kept = plan.parameters.max_keep
    elif plan.selector.counted and not plan.by_tile:
        keep = plan.parameters.keep
        kept = keep if 0 < keep <= tokens_per_tile else kept  # there is at least one tile
    grid = next(value for value in graph.inputs if value.name == "token_grid")
    grid.shape = ir.Shape(["tokens", 2])
    for value in graph.outputs[:2]:
        assert value.shape is not None
        value.shape = ir.Shape([kept, *list(value.shape)[1:]])
