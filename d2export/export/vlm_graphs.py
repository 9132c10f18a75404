"""The files of scope `vlm`: the vision graph without pruning, and the decoder with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from d2export.export.decoder import trace_decoder
from d2export.export.graph_file import DECODER, PRUNE, VISION, write_graph
from d2export.export.quantize import Quantization
from d2export.export.vision import trace_vision, trace_whole_vision
from d2export.export.vision_graph import placed, prior_slots, write_prune_graph
from d2export.export.weights import PlacedWeights
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior


def write_vlm_graphs(
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
    """Write `vision.onnx`, `decoder.onnx`, `prune.onnx` and the weights into `folder`.

    Args:
        refs: where each weight of the model lies, by canonical name.
        plan: whether the vision graph prunes, or the decoder, or both.
        prior: what importance is divided by, for the vision graph.
        quantization: which products become INT8; their weights then lie in a file of their own.

    Raises:
        OutputError: the weights cannot be written.
    """
    if plan.in_vision:
        vision = trace_vision(spec, plan, prior=prior, opset=opset)
    else:
        vision = trace_whole_vision(spec, opset)
    decoder = trace_decoder(spec.text, plan, opset, spec.vision.tokens_per_side)
    weights = placed(folder, [vision, decoder], refs, quantization, copy=copy_weights)
    write_graph(vision, folder / VISION, weights, prior_slots(spec, prior), precision)
    frequencies = {"model.text.inverse_frequencies": inverse_frequencies(spec.text).numpy()}
    write_graph(decoder, folder / DECODER, weights, frequencies, precision)
    write_prune_graph(folder / PRUNE, plan, precision, opset)
    return weights
