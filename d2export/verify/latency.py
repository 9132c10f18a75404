"""How long a graph takes: warm-up, then wall times of single runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.runtime.vision import Inputs, VisionRunner


@dataclass(frozen=True)
class Latency:
    """Wall time of one call in milliseconds, over `iterations` calls."""

    iterations: int
    min: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True)
class StageLatency:
    """One input size: the vision graph, and within it the selection, timed by itself.

    `selection_implementation` is `native` or `ONNX function`.
    """

    tiles: int
    tokens: int
    kept: int
    vision: Latency
    selection: Latency
    selection_implementation: str

    @property
    def selection_share(self) -> float:
        """Part of the vision graph's median that is selection."""
        return self.selection.median / self.vision.median

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "selection_share": self.selection_share}


def measure(call: Callable[[], object], *, warmup: int, iterations: int) -> Latency:
    """Time `call`; percentiles are those of the sorted single times, nothing is left out."""
    for _ in range(warmup):
        call()
    times = np.empty(iterations)
    for index in range(iterations):
        start = time.perf_counter()
        call()
        times[index] = time.perf_counter() - start
    return latency_of(times * 1e3)


def latency_of(times: npt.NDArray[np.float64]) -> Latency:
    """Of single times in milliseconds; percentiles are between the nearest two of them."""
    p90, p95, p99 = np.percentile(times, (90, 95, 99))
    return Latency(
        len(times),
        float(times.min()),
        float(times.mean()),
        float(np.median(times)),
        float(p90),
        float(p95),
        float(p99),
    )


def bench_vision(
    runner: VisionRunner, tiles: int, *, warmup: int, iterations: int, seed: int = 0
) -> StageLatency:
    """Latency of `tiles` tiles of noise; the work does not depend on what a picture shows.

    Selection's does. It runs on as many random tokens that resemble each other as those of a
    picture do, with a cosine of about 0.8, in random places and with random importance.
    """
    random = np.random.default_rng(seed)
    inputs = noise(runner.bundle, tiles, random)
    grid = inputs["token_grid"]
    tokens = len(grid)
    kept = len(runner.infer(inputs)[1])
    feeds = selection_inputs(runner, tokens, grid, random)
    return StageLatency(
        tiles,
        tokens,
        kept,
        measure(lambda: runner.infer(inputs), warmup=warmup, iterations=iterations),
        measure(
            lambda: runner.prune_session.run(None, feeds), warmup=warmup, iterations=iterations
        ),
        runner.selection_implementation,
    )


def noise(bundle: Bundle, tiles: int, random: np.random.Generator) -> Inputs:
    """Inputs of the vision graph of a bundle of scope `vision`: tiles of noise."""
    model = bundle.manifest.model
    tokens, size = tiles * model.vision.tokens_per_tile, model.vision.image.size
    inputs: Inputs = {
        "token_grid": random.uniform(0, tokens**0.5, (tokens, 2)).astype(np.float32),
        "pixel_values": random.standard_normal((tiles, 3, size, size), np.float32),
    }
    if bundle.manifest.selector.importance == "text":
        inputs["prompt_embeds"] = random.standard_normal((16, model.text.hidden), np.float32)
    return inputs


def selection_inputs(
    runner: VisionRunner, tokens: int, grid: Any, random: np.random.Generator
) -> dict[str, Any]:
    """Random inputs of the bundle's op alone: tokens with a cosine of about 0.8."""
    # A bfloat16 graph takes float32 where it is emulated.
    kinds = {value.name: value.type for value in runner.prune_session.get_inputs()}
    half = kinds["features"] == "tensor(float16)"
    by_name = {value.name: value for value in runner.bundle.manifest.graphs.prune.inputs}
    manifest = runner.bundle.manifest
    heads = "importance" in by_name and len(by_name["importance"].shape) == 3
    inside = manifest.plan.importance == "llm"
    count = manifest.model.text.heads if inside else manifest.model.vision.heads
    # With a budget for each tile, the op has a row for each.
    rows = tokens // manifest.model.vision.tokens_per_tile if manifest.plan.by_tile else 1
    tokens //= rows
    shape = (rows, count, tokens) if heads else (rows, tokens)
    width = manifest.model.text.hidden
    if manifest.plan.selector.compares == "features":
        width = manifest.model.vision.hidden * manifest.model.vision.downsample**2
    features = random.standard_normal(width, np.float32) + 0.5 * random.standard_normal(
        (rows, tokens, width), np.float32
    )
    feeds = {
        "features": features.astype(np.float16 if half else np.float32),
        "importance": random.random(shape, np.float32),
        "prior": np.ones(tokens, np.float32),
        "grid": grid[:tokens],
    }
    return {name: feeds[name] for name in by_name}
