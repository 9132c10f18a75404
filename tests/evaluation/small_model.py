"""A model with random weights that reads and answers, and a task of its own to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from d2export.evaluation.task import Sample, Task
from d2export.models.checkpoint import Checkpoint
from d2export.models.presets import ModelSpec, preset
from d2export.models.random_weights import write_random_checkpoint
from d2export.options import ExportOptions
from d2export.pipeline import export
from tests.small_tokenizers import write_qwen2

TOKENS = 16  # of a tile
WORDS = ("what is on the table?", "the fox", "the lazy dog in this picture?", "the brown table")


def small_spec(max_tiles: int = 2) -> ModelSpec:
    """`pocket` with tiles of 4 x 4 tokens."""
    spec = preset("pocket")
    image = replace(spec.vision.image, size=112, max_tiles=max_tiles)
    return replace(spec, vision=replace(spec.vision, image=image), weight_dtype="F32")


def write_small_model(folder: Path, spec: ModelSpec | None = None) -> Checkpoint:
    """A checkpoint with everything that is needed to ask it."""
    found = write_random_checkpoint(spec or small_spec(), folder, 3, scope="vlm")
    write_qwen2(folder)
    return found


def write_bundle(checkpoint: Checkpoint, out: Path, **options: Any) -> Path:
    """A bundle of scope `vlm`; its reference is a small picture, as PyTorch has to answer it."""
    out.parent.mkdir(exist_ok=True)
    picture = out.parent / "noise.png"
    draw(0).save(picture)
    chosen = ExportOptions(str(checkpoint.folder), scope="vlm", images=(picture,), **options)
    export(chosen, out)
    return out


def draw(number: int) -> Image.Image:
    """Noise; every third picture is wide, and so has two tiles and a thumbnail."""
    size = (112, 224) if number % 3 == 2 else (112, 112)
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels)


def small_samples(pictures: int, questions: int = 2, longest: int = 6) -> list[Sample]:
    """Questions of two kinds, some longer than others, neighbours about one picture."""
    return [
        Sample(
            id=f"{picture}.{question}",
            kind=("locate", "read")[question % 2],
            picture=lambda picture=picture: draw(picture),  # type: ignore[misc]
            picture_id=str(picture),
            prompt=WORDS[(picture + question) % len(WORDS)],
            truth=f"{picture + question}",
            max_new_tokens=longest - question % 3,
            regions=((0.1, 0.1, 0.4, 0.3),),
            chance=0.25,
        )
        for picture in range(pictures)
        for question in range(questions)
    ]


def small_task(samples: Sequence[Sample]) -> Task:
    """Scores by the length of the answer: not useful, but different for different answers."""
    return Task(
        "small",
        "Questions about noise.",
        samples,
        {"": "length"},
        lambda sample, text: float(len(text) % 2),
    )
