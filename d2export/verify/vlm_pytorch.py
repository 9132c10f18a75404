"""The PyTorch side of a check of scope `vlm`. Needs torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d2export.bundle.folder import Bundle
from d2export.export.pruned_decoder import Decoded, PrunedDecoder, Pruning
from d2export.export.weights import load_into, stored_refs
from d2export.models.decoder import KeyValue, inverse_frequencies
from d2export.models.images import load_image
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.models.tiling import Tiles, normalize, tile
from d2export.models.vision_tower import VisionModel
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.prior import Prior
from d2export.pruning.selection import Scored
from d2export.runtime.generate import Generator
from d2export.runtime.tokenizer import TOKENIZER, Encoded
from d2export.verify.streamed import stream_weights
from d2export.verify.vlm_prompt import ANSWER_TOKENS, reference_prompt
from d2export.verify.vlm_reference import VlmReference, read_vlm_reference

TILES_AT_ONCE = 4  # attention of a tile takes 67 MB; a request of 13 would take a gigabyte
STORED_ROWS = 64  # visual tokens whose embeddings a reference keeps


@dataclass
class Modules:
    """The float32 model: the vision half in memory, the language model read as it runs."""

    spec: ModelSpec
    vision: VisionModel
    decoder: PrunedDecoder
    prior: Prior


class VlmAnswer(NamedTuple):
    """What PyTorch answers in float32, what it decided on, and how long all of it took.

    `scored` is None for several images, whose budgets depend on each other.
    """

    reference: VlmReference
    scored: Scored | None
    seconds: float


def modules_of(
    spec: ModelSpec,
    parameters: PruneParameters,
    prune_layer: int,
    prior_source: str,
    prior: Prior | None,
    refs: Mapping[str, TensorRef],
) -> Modules:
    """The model with its weights; `refs` by canonical name."""
    with torch.device("meta"):
        vision = VisionModel(spec)
        decoder = PrunedDecoder(spec.text, parameters, prune_layer, prior_source)
    vision.to_empty(device="cpu")
    load_into(vision, refs)
    text = decoder.model.text
    text.inverse_frequencies = inverse_frequencies(spec.text)
    stream_weights(decoder.model, refs, keep="text.embedding.weight" if spec.text.tied else "")
    ones = Prior.ones(spec.vision.tokens_per_tile)
    return Modules(spec, vision.eval(), decoder.eval(), prior if prior is not None else ones)


def load_modules(bundle: Bundle, prior: Prior) -> Modules:
    """The model of a bundle, from its manifest and the weights its graphs refer to."""
    manifest = bundle.manifest
    model, selector = manifest.model, manifest.selector
    assert manifest.graphs.decoder is not None
    assert selector.prune_layer is not None
    refs: dict[str, TensorRef] = {}
    for graph in (manifest.graphs.vision, manifest.graphs.decoder):
        refs |= stored_refs(bundle.path(graph.path))
    return modules_of(
        ModelSpec(model.name, model.family, model.id, model.vision, model.text),
        selector.parameters(),
        selector.prune_layer,
        selector.prior.source,
        prior,
        refs,
    )


def ask_again(generator: Generator, images: Sequence[Path]) -> dict[str, VlmAnswer]:
    """PyTorch's answers to a bundle's stored prompts; with `images`, to pictures instead.

    A prompt about another picture needs the bundle's tokenizer; without one, the text is random.
    """
    bundle = generator.bundle
    modules = load_modules(bundle, generator.prior)
    if images:
        vision, text = bundle.manifest.model.vision, bundle.manifest.model.text
        has_tokenizer = (bundle.root / "processor" / TOKENIZER).is_file()
        tokenizer = generator.tokenizer if has_tokenizer else None
        cut = {str(path): tile(load_image(path), vision) for path in images}
        asked = {
            name: reference_prompt(tokenizer, text, [len(tiles.grid)])
            for name, tiles in cut.items()
        }
        return {
            name: answer(modules, [tiles], asked[name], ANSWER_TOKENS)
            for name, tiles in cut.items()
        }
    stored = {
        entry.name: read_vlm_reference(bundle.path(entry.path))
        for entry in bundle.manifest.references
    }
    return {
        name: _answer(
            modules,
            reference.images(),
            [reference.token_grid],
            Encoded(reference.input_ids, reference.visual_positions, reference.image_lengths),
            len(reference.tokens),
        )
        for name, reference in stored.items()
    }


def answer(modules: Modules, images: Sequence[Tiles], encoded: Encoded, count: int) -> VlmAnswer:
    """The first `count` tokens that PyTorch answers, taking the most likely one each time."""
    pixels, grids = [tiles.pixels for tiles in images], [tiles.grid for tiles in images]
    return _answer(modules, pixels, grids, encoded, count)


def _answer(
    modules: Modules,
    pixels: Sequence[npt.NDArray[np.uint8]],
    grids: Sequence[npt.NDArray[np.float32]],
    encoded: Encoded,
    count: int,
) -> VlmAnswer:
    start = time.perf_counter()
    with torch.inference_mode():
        embeds = torch.cat([_embed(modules, tiles) for tiles in pixels])
        grid = np.concatenate(grids)
        prior = np.concatenate([modules.prior.layout(len(tiles)) for tiles in pixels])
        length = len(encoded.input_ids)
        decoded = prefill(modules, encoded, embeds, grid, prior)
        logits = decoded.logits[0]
        tokens = [int(logits.argmax())]
        positions = decoded.positions.numpy()
        scored = scored_of(decoded.pruning) if len(pixels) == 1 else None
        while len(tokens) < count:
            decoded = _call(
                modules,
                torch.tensor([[tokens[-1]]]),
                embeds[:0],
                encoded.visual_positions[:0],
                encoded.image_lengths[:0],
                grid[:0],
                prior[:0],
                torch.tensor([[length + len(tokens) - 1]]),
                decoded.present,
            )
            tokens.append(int(decoded.logits.argmax()))
    seconds = time.perf_counter() - start
    rows = np.unique(np.linspace(0, len(embeds) - 1, STORED_ROWS).round().astype(np.int64))
    reference = VlmReference(
        pixels=np.concatenate(pixels),
        tiles=np.array([len(tiles) for tiles in pixels], np.int64),
        input_ids=encoded.input_ids,
        visual_positions=encoded.visual_positions,
        image_lengths=encoded.image_lengths,
        token_grid=grid,
        rows=rows,
        image_embeds=embeds[torch.from_numpy(rows)].numpy(),
        positions=positions,
        logits=logits.numpy(),
        tokens=np.array(tokens, np.int64),
    )
    return VlmAnswer(reference, scored, seconds)


def prefill(
    modules: Modules,
    encoded: Encoded,
    embeds: Tensor,
    grid: npt.NDArray[np.float32],
    prior: npt.NDArray[np.float32],
) -> Decoded:
    """The decoder's answer to a prompt that begins a sequence.

    Args:
        embeds: `[V, hidden]`, the visual tokens of all images.
        grid: `[V, 2]`, where they lie.
        prior: `[V]`; used with a prior file only.
    """
    return _call(
        modules,
        torch.from_numpy(encoded.input_ids)[None],
        embeds,
        encoded.visual_positions,
        encoded.image_lengths,
        grid,
        prior,
        torch.arange(len(encoded.input_ids))[None],
        _nothing(modules.spec),
    )


def scored_of(pruning: Pruning) -> Scored:
    """The visual tokens of a prompt with one image, as a selection is made from them."""
    visual = pruning.visual_positions
    return Scored(
        pruning.hidden_states[:, visual],
        pruning.importance[..., visual],
        pruning.prior,
        pruning.grid,
    )


def _embed(modules: Modules, pixels: npt.NDArray[np.uint8]) -> Tensor:
    tiles = torch.from_numpy(normalize(pixels, modules.spec.vision.image))
    parts = [modules.vision(part)[0] for part in torch.split(tiles, TILES_AT_ONCE)]
    return torch.cat(parts).flatten(0, 1)


def _nothing(spec: ModelSpec) -> list[KeyValue]:
    empty = torch.empty(1, spec.text.kv_heads, 0, spec.text.head_dim)
    return [KeyValue(empty, empty)] * spec.text.layers


def _call(
    modules: Modules,
    input_ids: Tensor,
    embeds: Tensor,
    visual_positions: npt.NDArray[np.int64],
    image_lengths: npt.NDArray[np.int64],
    grid: npt.NDArray[np.float32],
    prior: npt.NDArray[np.float32],
    position_ids: Tensor,
    past: list[KeyValue],
) -> Decoded:
    return modules.decoder.decode(
        input_ids,
        embeds,
        torch.from_numpy(visual_positions),
        torch.from_numpy(image_lengths),
        torch.from_numpy(grid),
        position_ids,
        past,
        torch.from_numpy(prior) if modules.decoder.prior_source == "file" else None,
    )
