"""Layer by layer through the whole model: where do its graphs leave PyTorch's path? Needs torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from d2export.models.tiling import normalize
from d2export.runtime.decoder import Prompt
from d2export.runtime.decoder_part import DecoderPart
from d2export.runtime.generate import Generator
from d2export.runtime.tokenizer import Encoded
from d2export.verify.layers import LayerDrift, LayerReport, drift, recorded
from d2export.verify.vlm_pytorch import Modules, prefill
from d2export.verify.vlm_reference import VlmReference


def compare_vlm_layers(
    generator: Generator, modules: Modules, reference: VlmReference, *, limit: float
) -> LayerReport:
    """Run both graphs and PyTorch on a stored prompt and compare what every layer hands on.

    Each graph gets what PyTorch gives its half: pixels, and PyTorch's own visual tokens.
    """
    spec = modules.spec
    pixels = normalize(reference.pixels, spec.vision.image)
    with torch.inference_mode():
        vision, embeds = _vision(generator, modules, pixels)
        decoder = list(_decoder(generator, modules, reference, embeds))
    return LayerReport(limit, (*vision, *decoder))


def _vision(
    generator: Generator, modules: Modules, pixels: npt.NDArray[np.float32]
) -> tuple[list[LayerDrift], torch.Tensor]:
    """The vision graph, and PyTorch's visual tokens `[N, hidden]`."""
    manifest = generator.bundle.manifest
    names = [*manifest.layers, "image_embeds"]
    session = generator.vision.open(manifest.graphs.vision, manifest.layers)
    ours = session.run(names, {"pixel_values": pixels})
    with recorded(modules.vision.tower.layers) as theirs:
        theirs["image_embeds"] = modules.vision(torch.from_numpy(pixels))[0].flatten(0, 1)
    found = [
        drift(f"vision.{name}", values, theirs[name].numpy())
        for name, values in zip(names, ours, strict=True)
    ]
    return found, theirs["image_embeds"]


def _decoder(
    generator: Generator, modules: Modules, reference: VlmReference, embeds: torch.Tensor
) -> Iterator[LayerDrift]:
    """The decoder graph, one layer at a time, so that no more weights are in memory than its own.

    From layer K on it goes on with the tokens that PyTorch kept: what the graph keeps is for
    `check` to compare, and with other tokens no state would be comparable.
    """
    text, selector = modules.spec.text, generator.bundle.manifest.selector
    assert selector.prune_layer is not None
    grid, prior = reference.token_grid, _prior(generator, reference)
    encoded = Encoded(reference.input_ids, reference.visual_positions, reference.image_lengths)
    with recorded(modules.decoder.model.text.all_layers()) as theirs:
        decoded = prefill(modules, encoded, embeds, grid, prior)
    theirs |= {
        "importance": decoded.pruning.importance,
        "prior": decoded.pruning.prior,
        "logits": decoded.logits,
    }
    beside: dict[int, tuple[str, ...]] = {selector.prune_layer - 1: ("importance",)}
    if selector.prior.source == "shallow":
        beside[0] = ("prior", *beside.get(0, ()))
    beside[text.layers - 1] = (*beside.get(text.layers - 1, ()), "logits")

    prompt = Prompt(
        encoded.input_ids,
        embeds.numpy(),
        encoded.visual_positions,
        encoded.image_lengths,
        grid,
        prior,
    )
    values = {"positions": decoded.positions.numpy()}
    for index in range(text.layers):
        names = (f"layers.{index}", *beside.get(index, ()))
        part = DecoderPart(generator.decoder, names, tuple(values))
        ours = dict(zip(names, part(prompt, values), strict=True))
        for name in names:
            yield drift(f"decoder.{name}", ours[name], theirs[name].numpy())
        values = {"positions": values["positions"], names[0]: ours[names[0]]}


def _prior(generator: Generator, reference: VlmReference) -> npt.NDArray[np.float32]:
    return np.concatenate([generator.prior.layout(int(count)) for count in reference.tiles])
