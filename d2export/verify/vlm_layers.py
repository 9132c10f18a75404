"""Layer by layer through the whole model: where do its graphs leave PyTorch's path? Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import torch

from d2export.export.pruned_vision import PrunedVision
from d2export.models.tiling import normalize
from d2export.runtime.decoder_part import DecoderPart
from d2export.runtime.generate import Generator
from d2export.verify.layers import LayerDrift, LayerReport, drift, recorded
from d2export.verify.vlm_pytorch import Modules, prefill, see
from d2export.verify.vlm_reference import VlmReference


def compare_vlm_layers(
    generator: Generator, modules: Modules, reference: VlmReference, *, limit: float
) -> LayerReport:
    """Run both graphs and PyTorch on a stored prompt and compare what every layer hands on.

    Each graph gets what PyTorch gives its half: pixels, and PyTorch's own visual tokens.
    """
    with torch.inference_mode():
        vision = _vision(generator, modules, reference)
        decoder = list(_decoder(generator, modules, reference))
    return LayerReport(limit, (*vision, *decoder))


def _vision(generator: Generator, modules: Modules, reference: VlmReference) -> list[LayerDrift]:
    """The vision graph, on the reference's first image."""
    manifest, module = generator.bundle.manifest, modules.vision
    pixels = reference.images()[0]
    inputs = {"pixel_values": normalize(pixels, modules.spec.vision.image)}
    names = list(manifest.layers)
    if isinstance(module, PrunedVision):
        inputs = generator.vision_inputs(reference.encoded(), pixels, reference.grids()[0])
    else:
        names.append("image_embeds")
    session = generator.vision.open(manifest.graphs.vision, manifest.layers)
    ours = session.run(names, inputs)
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    with recorded(module.model.tower.layers) as theirs:
        if isinstance(module, PrunedVision):
            scored = module.look(
                tensors["pixel_values"], tensors["token_grid"], tensors.get("prompt_embeds")
            ).scored
            theirs |= {"features": scored.features, "importance": scored.importance}
        else:
            theirs["image_embeds"] = module(tensors["pixel_values"])
    return [
        drift(f"vision.{name}", values, theirs[name].numpy())
        for name, values in zip(names, ours, strict=True)
    ]


def _decoder(
    generator: Generator, modules: Modules, reference: VlmReference
) -> Iterator[LayerDrift]:
    """The decoder graph, one layer at a time, so that no more weights are in memory than its own.

    From layer K on it goes on with the tokens that PyTorch kept: what the graph keeps is for
    `check` to compare, and with other tokens no state would be comparable.
    """
    text, plan = modules.spec.text, modules.plan
    prompt, _ = see(modules, reference.images(), reference.grids(), reference.encoded())
    with recorded(modules.decoder.model.text.all_layers()) as theirs:
        decoded = prefill(modules, prompt)
    theirs["logits"] = decoded.logits
    beside: dict[int, tuple[str, ...]] = {}
    values: dict[str, npt.NDArray[Any]] = {}
    if plan.prune_layer is not None:
        values["positions"] = decoded.positions.numpy()
    if plan.prune_layer is not None and decoded.attention is not None:
        theirs["attention"] = decoded.attention
        beside[plan.prune_layer - 1] = ("attention",)
    if plan.prune_layer is not None and decoded.pruning is not None:
        theirs |= {"importance": decoded.pruning.importance, "prior": decoded.pruning.prior}
        beside[plan.prune_layer - 1] = ("importance",)
        if plan.prior == "shallow":
            beside[0] = ("prior", *beside.get(0, ()))
    beside[text.layers - 1] = (*beside.get(text.layers - 1, ()), "logits")

    for index in range(text.layers):
        names = (f"layers.{index}", *beside.get(index, ()))
        part = DecoderPart(generator.decoder, names, tuple(values))
        ours = dict(zip(names, part(prompt, values), strict=True))
        for name in names:
            yield drift(f"decoder.{name}", ours[name], theirs[name].numpy())
        values = {name: found for name, found in values.items() if name == "positions"}
        values[names[0]] = ours[names[0]]
