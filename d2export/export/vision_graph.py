"""The files of scope `vision`: the graph with pruning behind the projector, weights beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from d2export.export.graph_file import PRUNE, VISION, write_graph
from d2export.export.onnx_function import prune_model
from d2export.export.precision import TYPES
from d2export.export.quantize import Quantization, quantize
from d2export.export.quantize_weights import place_narrow
from d2export.export.vision import trace_vision
from d2export.export.weights import PlacedWeights, place
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior


def write_graphs(
    folder: Path,
    spec: ModelSpec,
    refs: Mapping[str, TensorRef],
    plan: Plan,
    *,
    prior: Prior | None,
    precision: str,
    opset: int,
    copy_weights: bool,
    quantization: Quantization | None = None,
) -> PlacedWeights:
    """Write `vision.onnx`, `prune.onnx` and the weights into `folder`.

    Args:
        refs: where each weight of the model lies, by canonical name.
        quantization: which products become INT8; their weights then lie in a file of their own.

    Raises:
        OutputError: the weights cannot be written.
    """
    model = trace_vision(spec, plan, prior=prior, opset=opset)
    weights = placed(folder, [model], refs, quantization, copy=copy_weights)
    write_graph(model, folder / VISION, weights, prior_slots(spec, prior), precision)
    write_prune_graph(folder / PRUNE, plan, precision, opset)
    return weights


def placed(
    folder: Path,
    models: Sequence[ir.Model],
    refs: Mapping[str, TensorRef],
    quantization: Quantization | None,
    *,
    copy: bool,
) -> PlacedWeights:
    """The weights of traced graphs, beside them; where asked for, graphs and weights in INT8."""
    if quantization is None:
        return place(refs, folder, copy=copy)
    narrow = [weight for model in models for weight in quantize(model, refs, quantization)]
    return place_narrow(refs, narrow, models, folder)


def prior_slots(spec: ModelSpec, prior: Prior | None) -> dict[str, npt.NDArray[np.float32]]:
    """The prior as the constants of a vision graph."""
    slots = prior if prior is not None else Prior.ones(spec.vision.tokens_per_tile)
    return {"tile_prior": slots.tile, "thumbnail_prior": slots.thumbnail}


def write_prune_graph(path: Path, plan: Plan, precision: str, opset: int) -> None:
    """Write the plan's op as a graph by itself: what `bench` times."""
    # Inside the language model, selection has 32-bit features in every precision.
    dtype = TYPES[precision if plan.in_vision else "fp32"]
    heads = plan.importance in ("cls", "llm") and not plan.by_tile and not plan.reads_ahead
    model = prune_model(plan.parameters, opset, int(dtype), heads=heads, op_type=plan.selector.rule)
    onnx.save(model, path)
