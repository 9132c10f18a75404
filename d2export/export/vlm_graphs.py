"""The files of scope `vlm`: the vision graph without pruning, and the decoder with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from d2export.export.decoder import trace_decoder
from d2export.export.graph_file import DECODER, PRUNE, VISION, write_graph
from d2export.export.onnx_function import prune_model
from d2export.export.precision import TYPES
from d2export.export.vision import trace_whole_vision
from d2export.export.weights import PlacedWeights, place
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.pruning.parameters import PruneParameters


def write_vlm_graphs(
    folder: Path,
    spec: ModelSpec,
    refs: Mapping[str, TensorRef],
    parameters: PruneParameters,
    *,
    prune_layer: int,
    prior: str,
    precision: str,
    opset: int,
    copy_weights: bool,
) -> PlacedWeights:
    """Write `vision.onnx`, `decoder.onnx`, `prune.onnx` and the weights into `folder`.

    Args:
        refs: where each weight of the model lies, by canonical name.
        prune_layer: K, the layer before which visual tokens are pruned.
        prior: `none`, `file` or `shallow`.

    Raises:
        OutputError: the weights cannot be written.
    """
    weights = place(refs, folder, copy=copy_weights)
    vision = trace_whole_vision(spec, opset)
    write_graph(vision, folder / VISION, weights, {}, precision)
    decoder = trace_decoder(
        spec.text, parameters, prune_layer=prune_layer, prior=prior, opset=opset
    )
    frequencies = {"model.text.inverse_frequencies": inverse_frequencies(spec.text).numpy()}
    write_graph(decoder, folder / DECODER, weights, frequencies, precision)
    onnx.save(prune_model(parameters, opset, int(TYPES["fp32"]), heads=True), folder / PRUNE)
    return weights
