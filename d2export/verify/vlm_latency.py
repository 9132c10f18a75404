"""How long the stages of an answer take: vision, prefill, decode, and selection by itself."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.engine.custom_op import Implementation
from d2export.runtime.decoder import Prompt
from d2export.runtime.generate import Generator
from d2export.runtime.tokenizer import Encoded
from d2export.verify.latency import Latency, measure, selection_inputs
from d2export.verify.tables import table

TEXT_TOKENS = 32  # of the prompt, behind its image


@dataclass(frozen=True)
class VlmLatency:
    """One input size: a prompt with one image of `tiles` tiles, and 32 tokens of text.

    `decode` is one further token, `selection` the op alone on as many visual tokens, with 32-bit
    features; it is part of the prefill.
    """

    tiles: int
    visual_tokens: int
    kept: int
    vision: Latency
    prefill: Latency
    decode: Latency
    selection: Latency
    selection_implementation: Implementation

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "selection_share": self.selection.median / self.prefill.median}


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt with one image of noise, before and after the vision graph has seen it.

    Attributes:
        pixels: `[T, 3, S, S]` uint8.
        grid: `[N, 2]` float32, random places.
        prompt: for the decoder. Where that prunes, its visual tokens resemble each other as those
            of a picture do, with a cosine of about 0.8.
    """

    encoded: Encoded
    pixels: npt.NDArray[np.uint8]
    grid: npt.NDArray[np.float32]
    prompt: Prompt


def noise_question(generator: Generator, tiles: int, random: np.random.Generator) -> Question:
    """A prompt with one image of `tiles` tiles of noise, and 32 tokens of text behind it."""
    model = generator.bundle.manifest.model
    tokens, size = tiles * model.vision.tokens_per_tile, model.vision.image.size
    pixels = random.integers(0, 256, (tiles, 3, size, size), np.uint8)
    width = model.text.hidden
    features = random.standard_normal(width, np.float32) + 0.5 * random.standard_normal(
        (tokens, width), np.float32
    )
    ids = random.integers(0, model.text.vocab, tokens + TEXT_TOKENS)
    words = np.arange(tokens, tokens + TEXT_TOKENS - 1)
    encoded = Encoded(ids, np.arange(tokens), np.array([tokens]), words)
    grid = random.uniform(0, tokens**0.5, (tokens, 2)).astype(np.float32)
    prompt = generator.see(encoded, [pixels], [grid])
    if not generator.bundle.manifest.plan.in_vision:
        prompt = replace(prompt, image_embeds=features)
    return Question(encoded, pixels, grid, prompt)


def bench_vlm(
    generator: Generator, tiles: int, *, warmup: int, iterations: int, seed: int = 0
) -> VlmLatency:
    """Latency with `tiles` tiles of noise; only selection depends on what a picture shows.

    It runs on visual tokens that resemble each other as those of a picture do, with a cosine of
    about 0.8, in random places.
    """
    random = np.random.default_rng(seed)
    asked = noise_question(generator, tiles, random)
    decoder, prompt, tokens = generator.decoder, asked.prompt, len(asked.grid)
    survived = decoder.prefill(decoder.start(), prompt).positions
    kept = int((survived < tokens).sum())
    sequence = decoder.start()
    decoder.prefill(sequence, prompt)
    answer = itertools.cycle(asked.encoded.input_ids.tolist())
    timed = {"warmup": warmup, "iterations": iterations}
    feeds = selection_inputs(generator.vision, tokens, asked.grid, random)
    prune = generator.vision.prune_session
    return VlmLatency(
        tiles,
        tokens,
        kept,
        measure(lambda: generator.see(asked.encoded, [asked.pixels], [asked.grid]), **timed),
        measure(lambda: decoder.prefill(decoder.start(), prompt), **timed),
        measure(lambda: decoder.step(sequence, next(answer)), **timed),
        measure(lambda: prune.run(None, feeds), **timed),
        generator.vision.selection_implementation,
    )


def vlm_latency_table(stages: tuple[VlmLatency, ...] | list[VlmLatency]) -> str:
    """Four lines per input size."""
    columns = ("min", "median", "mean", "p90", "p95", "p99")
    rows = [
        [
            name,
            *map(str, (stage.tiles, stage.visual_tokens, stage.kept)),
            *(f"{getattr(latency, column):.2f}" for column in columns),
            runs_as,
        ]
        for stage in stages
        for name, latency, runs_as in (
            ("vision", stage.vision, ""),
            ("prefill", stage.prefill, ""),
            ("decode, a token", stage.decode, ""),
            ("selection", stage.selection, stage.selection_implementation),
        )
    ]
    return table(["milliseconds", "tiles", "visual", "kept", *columns, "runs as"], rows)
