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
from d2export.export.pruned_vision import PrunedVision, WholeVision
from d2export.export.weights import load_into, stored_refs
from d2export.models.decoder import KeyValue, inverse_frequencies
from d2export.models.images import load_image
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef, load
from d2export.models.tiling import Tiles, normalize, tile
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.selection import Scored
from d2export.runtime.decoder import Prompt, text_prompt
from d2export.runtime.generate import Generator
from d2export.runtime.request import prompt_of
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
    plan: Plan
    vision: PrunedVision | WholeVision
    decoder: PrunedDecoder
    prior: Prior
    embedding: TensorRef


class VlmAnswer(NamedTuple):
    """What PyTorch answers in float32, what it decided on, and how long all of it took.

    `scored` is what a rule decided on, in the vision half or inside the language model; None for
    several images, whose budgets depend on each other. `attention` `[D + 1, V]` is what correlation
    decided on, else None.
    """

    reference: VlmReference
    scored: Scored | None
    attention: Tensor | None
    seconds: float


def modules_of(
    spec: ModelSpec, plan: Plan, prior: Prior | None, refs: Mapping[str, TensorRef]
) -> Modules:
    """The model with its weights; `refs` by canonical name."""
    with torch.device("meta"):
        vision = PrunedVision(spec, plan, prior) if plan.in_vision else WholeVision(spec)
        decoder = PrunedDecoder(spec.text, plan, spec.vision.tokens_per_side)
    vision.model.to_empty(device="cpu")
    load_into(vision.model, refs)
    text = decoder.model.text
    text.inverse_frequencies = inverse_frequencies(spec.text)
    keep = ["text.embedding.weight"] if spec.text.tied else []
    if plan.reads_ahead and spec.text.fused_qkv:  # of which it takes some rows alone
        first = plan.prune_layer or 0
        ahead = range(first, first + plan.rows.ahead)
        keep += [f"text.layers.{index}.attention.qkv.weight" for index in ahead]
    stream_weights(decoder.model, refs, keep=keep)
    ones = Prior.ones(spec.vision.tokens_per_tile)
    return Modules(
        spec,
        plan,
        vision.eval(),
        decoder.eval(),
        prior if prior is not None else ones,
        refs["text.embedding.weight"],
    )


def load_modules(bundle: Bundle, prior: Prior) -> Modules:
    """The model of a bundle, from its manifest and the weights its graphs refer to."""
    manifest = bundle.manifest
    model = manifest.model
    assert manifest.graphs.decoder is not None
    refs: dict[str, TensorRef] = {}
    for graph in (manifest.graphs.vision, manifest.graphs.decoder):
        refs |= stored_refs(bundle.path(graph.path))
    return modules_of(
        ModelSpec(model.name, model.family, model.id, model.vision, model.text),
        manifest.plan,
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
            reference.grids(),
            reference.encoded(),
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
        prompt, seen = see(modules, pixels, grids, encoded)
        decoded = prefill(modules, prompt)
        logits = decoded.logits[0]
        tokens = [int(logits.argmax())]
        positions = prompt.origin[decoded.positions.numpy()].astype(np.int32)
        scored, attention = seen, decoded.attention
        if decoded.pruning is not None:
            single = len(pixels) == 1 and modules.plan.budget == "image"
            scored = scored_of(decoded.pruning) if single else None
        length = int(prompt.position_ids[-1]) + 1
        while len(tokens) < count:
            more = text_prompt(np.array([tokens[-1]], np.int64), modules.spec.text.hidden)
            decoded = _call(modules, more, length + len(tokens) - 1, decoded.present)
            tokens.append(int(decoded.logits.argmax()))
    seconds = time.perf_counter() - start
    visual = np.flatnonzero(
        np.isin(encoded.visual_positions, prompt.origin[prompt.visual_positions])
    )
    picked = np.unique(np.linspace(0, len(visual) - 1, STORED_ROWS).round().astype(np.int64))
    reference = VlmReference(
        pixels=np.concatenate(pixels),
        tiles=np.array([len(tiles) for tiles in pixels], np.int64),
        input_ids=encoded.input_ids,
        visual_positions=encoded.visual_positions,
        image_lengths=encoded.image_lengths,
        text_positions=encoded.text_positions,
        token_grid=np.concatenate(grids),
        rows=visual[picked],
        image_embeds=prompt.image_embeds[picked],
        positions=positions,
        logits=logits.numpy(),
        tokens=np.array(tokens, np.int64),
    )
    return VlmAnswer(reference, scored, attention, seconds)


def prefill(modules: Modules, prompt: Prompt) -> Decoded:
    """The decoder's answer to a prompt that begins a sequence."""
    return _call(modules, prompt, 0, _nothing(modules.spec))


def see(
    modules: Modules,
    pixels: Sequence[npt.NDArray[np.uint8]],
    grids: Sequence[npt.NDArray[np.float32]],
    encoded: Encoded,
) -> tuple[Prompt, Scored | None]:
    """The prompt behind the vision half; with one image, what that decided on, if it prunes."""
    vision, plan = modules.vision, modules.plan
    tiles = [torch.from_numpy(normalize(part, modules.spec.vision.image)) for part in pixels]
    if isinstance(vision, WholeVision):
        embeds = [
            torch.cat([vision(p) for p in torch.split(part, TILES_AT_ONCE)]) for part in tiles
        ]
        arrays = [part.numpy() for part in embeds]
        return prompt_of(encoded, grids, arrays, None, modules.prior, plan), None
    words = None
    if plan.importance == "text":
        ids = encoded.input_ids[encoded.text_positions].tolist()
        rows = [load(modules.embedding.rows(index, index + 1)) for index in ids]
        words = torch.from_numpy(np.concatenate(rows))
    looked = [
        vision.look(part, torch.from_numpy(grid), words, tiles_at_once=TILES_AT_ONCE)
        for part, grid in zip(tiles, grids, strict=True)
    ]
    chosen = [vision.choose(one) for one in looked]
    filled = [slice(int(count[0]) if count else None) for _, _, *count in chosen]
    arrays = [one[0][part].numpy() for one, part in zip(chosen, filled, strict=True)]
    kept = [one[1][part].numpy() for one, part in zip(chosen, filled, strict=True)]
    prompt = prompt_of(encoded, grids, arrays, kept, modules.prior, plan)
    return prompt, looked[0].scored if len(looked) == 1 else None


def scored_of(pruning: Pruning) -> Scored:
    """The visual tokens of a prompt with one image, as a selection is made from them."""
    visual = pruning.visual_positions
    return Scored(
        pruning.hidden_states[:, visual],
        pruning.importance[..., visual],
        pruning.prior,
        pruning.grid,
    )


def _nothing(spec: ModelSpec) -> list[KeyValue]:
    empty = torch.empty(1, spec.text.kv_heads, 0, spec.text.head_dim)
    return [KeyValue(empty, empty)] * spec.text.layers


def _call(modules: Modules, prompt: Prompt, before: int, past: list[KeyValue]) -> Decoded:
    return modules.decoder.decode(
        torch.from_numpy(prompt.input_ids)[None],
        torch.from_numpy(prompt.image_embeds),
        torch.from_numpy(prompt.visual_positions),
        torch.from_numpy(before + prompt.position_ids)[None],
        past,
        image_lengths=torch.from_numpy(prompt.image_lengths),
        token_grid=torch.from_numpy(prompt.token_grid),
        prior=torch.from_numpy(prompt.prior) if modules.plan.prior == "file" else None,
        text_positions=torch.from_numpy(prompt.text_positions),
    )
