"""The files of scope `vision`: the graph with pruning behind the projector, weights beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from d2export.export.graph_file import PRUNE, VISION, write_graph
from d2export.export.onnx_function import prune_model
from d2export.export.precision import TYPES
from d2export.export.vision import trace_vision
from d2export.export.weights import PlacedWeights, place
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.prior import Prior


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
    model = trace_vision(
        spec, parameters, importance=importance, cls_layer=cls_layer, prior=prior, opset=opset
    )
    weights = place(refs, folder, copy=copy_weights)
    slots = prior if prior is not None else Prior.ones(spec.vision.tokens_per_tile)
    constants = {"tile_prior": slots.tile, "thumbnail_prior": slots.thumbnail}
    write_graph(model, folder / VISION, weights, constants, precision)
    heads = importance == "cls"
    onnx.save(prune_model(parameters, opset, int(TYPES[precision]), heads=heads), folder / PRUNE)
    return weights
