"""The bundles that engine.py makes engines of, and what these are asked: part of engine.py.

Weights are random: neither latency nor equality with PyTorch depends on them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from engine_table import NotRun

from d2export.bundle.folder import Bundle, read_bundle
from d2export.models.checkpoint import SHIPPED
from d2export.models.presets import ModelSpec, preset
from d2export.models.random_weights import write_random_checkpoint
from d2export.models.tiling import token_grid
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.progress import Progress
from d2export.pruning.selector import Scope

TEXT_TOKENS = 64
BEFORE_IMAGE = 4
SLICE_VOCABULARY = 4096  # the head of a slice; all layers have their real width
PRUNE_LAYER = 2
TOKENIZER = ("tokenizer.json", "chat_template.jinja")
Arrays = dict[str, npt.NDArray[Any]]


def slice_of(model: str, layers: int) -> ModelSpec:
    """A preset with fewer layers in its language model."""
    whole = preset(model)
    text = replace(whole.text, layers=layers, vocab=min(SLICE_VOCABULARY, whole.text.vocab))
    return replace(whole, name=f"{model}-{layers}-layers", hub_id=None, text=text)


def make_bundle(
    spec: ModelSpec,
    scope: Scope,
    keep: str,
    precision: str,
    folder: Path,
    scales: Path | None = None,
) -> Bundle:
    """A bundle with random weights in `folder`; the one that is there if there is one.

    Its checkpoint lies beside it, and serves every precision.
    """
    if not folder.exists():
        checkpoint = folder.with_name("checkpoint")
        if not checkpoint.exists():
            write_random_checkpoint(spec, checkpoint, seed=0, scope=scope)
            for name in TOKENIZER:  # any will do: scales are measured on prompts
                shutil.copyfile(SHIPPED["pocket"] / name, checkpoint / name)
        options = ExportOptions(
            str(checkpoint),
            scope=scope,
            keep=keep,
            precision=precision,
            prune_layer=PRUNE_LAYER,
            scales=scales,
        )
        export(options, folder, progress=Progress(level="quiet"))
    return read_bundle(folder, verify=False)


def make_scales(bundle: Bundle, images: Path, file: Path) -> Path:
    """INT8 scales of an FP32 bundle, as `d2export calibrate int8` measures them.

    Raises:
        NotRun: the command failed, with what it said.
    """
    if file.exists():
        return file
    command = [sys.executable, "-m", "d2export", "calibrate", "int8", bundle.root]
    options = ["--images", images, "--limit", "8", "-o", file, "-q"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise NotRun(f"no INT8 scales: d2export calibrate int8 said: {said}")
    return file


def grid_of(spec: ModelSpec) -> npt.NDArray[np.float32]:
    """Token centres of a picture at most tiles: twelve and the thumbnail for InternVL2.5."""
    tiles = spec.vision.image.max_tiles
    columns = 4 if tiles % 4 == 0 and tiles > 4 else tiles
    grid: npt.NDArray[np.float32] = token_grid(
        columns, tiles // columns, spec.vision.tokens_per_side
    )
    return grid


def vision_question(bundle: Bundle, spec: ModelSpec) -> Arrays:
    """A picture of noise at most tiles."""
    grid = grid_of(spec)
    tiles, size = len(grid) // spec.vision.tokens_per_tile, spec.vision.image.size
    pixels = np.random.default_rng(0).standard_normal((tiles, 3, size, size), np.float32)
    return typed(bundle.manifest.graphs.vision, {"pixel_values": pixels, "token_grid": grid})


def prefill_question(bundle: Bundle, spec: ModelSpec, *, pruned: bool) -> Arrays:
    """A prompt with a picture at most tiles; unpruned: as long a prompt of text alone.

    Without visual tokens the graph prunes nothing: the same engine, the same length.
    """
    random = np.random.default_rng(0)
    grid, width = grid_of(spec), spec.text.hidden
    length = len(grid) + TEXT_TOKENS
    tokens = len(grid) if pruned else 0
    # Tokens that resemble each other as those of a picture do.
    kinds = random.standard_normal(width, np.float32)
    embeds = kinds + 0.5 * random.standard_normal((len(grid), width), np.float32)
    arrays: Arrays = {
        "input_ids": random.integers(0, spec.text.vocab, (1, length)),
        "image_embeds": embeds[:tokens],
        "visual_positions": np.arange(BEFORE_IMAGE, BEFORE_IMAGE + tokens),
        "position_ids": np.arange(length)[None],
        "image_lengths": np.array([tokens] if pruned else [], np.int64),
        "token_grid": grid[:tokens],
    }
    graph = bundle.manifest.graphs.decoder
    assert graph is not None
    empty = np.zeros((1, spec.text.kv_heads, 0, spec.text.head_dim), np.float32)
    arrays |= {value.name: empty for value in graph.inputs if value.name.startswith("past_key")}
    return typed(graph, arrays)


def typed(graph: Any, arrays: Arrays) -> Arrays:
    """What the graph asks for, in its types."""
    return {value.name: arrays[value.name].astype(value.dtype) for value in graph.inputs}
