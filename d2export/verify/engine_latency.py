"""How long a bundle's engines take: vision, prefill, decode, selection; memory and clocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from d2export.bundle.folder import Bundle
from d2export.engine import cuda_runtime
from d2export.engine.gpu_state import gpu_state
from d2export.progress import Progress
from d2export.runtime.built_engines import BuiltBundle, OpenedEngine
from d2export.runtime.engine_decoder import EngineDecoderRunner
from d2export.runtime.engine_vision import EngineVisionRunner
from d2export.runtime.generate import Generator
from d2export.verify.engine_timing import EngineTimes, time_engine
from d2export.verify.latency import noise
from d2export.verify.tables import plural, table
from d2export.verify.vlm_latency import noise_question

COLUMNS = ("min", "median", "mean", "p90", "p95", "p99")
MEGA = 1e6


@dataclass(frozen=True)
class EngineLatency:
    """One input size; `stages`: `vision` and, in scope `vlm`, `prefill` and `decode`, a token."""

    tiles: int
    visual_tokens: int
    kept: int
    stages: dict[str, EngineTimes]

    @property
    def tokens_per_second(self) -> dict[str, float]:
        """Of decoding: on the host, on the GPU alone, as a CUDA graph; empty without a decoder."""
        decode = self.stages.get("decode")
        if decode is None:
            return {}
        ways = {"host": decode.host, "gpu": decode.gpu, "graph": decode.graph}
        return {way: 1e3 / times.mean for way, times in ways.items() if times is not None}


@dataclass(frozen=True)
class GpuMemory:
    """Bytes on the GPU.

    Attributes:
        engines: of their files, most of them weights.
        activations: that their contexts have between inputs and outputs.
        taken: the most of the GPU's memory that was taken since before the engines were opened, by
            whomever, seen after each stage; CUDA itself had its part before.
    """

    engines: int
    activations: int
    taken: int


@dataclass(frozen=True)
class EngineBench:
    """All that was measured; `state` has clocks and power mode right after it."""

    backend: str
    gpu: str
    precision: str
    sizes: tuple[EngineLatency, ...]
    memory: GpuMemory
    state: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As plain values; times in milliseconds."""
        sizes = [
            {**asdict(size), "tokens_per_second": size.tokens_per_second} for size in self.sizes
        ]
        return {**asdict(self), "sizes": sizes}

    def text(self) -> str:
        """A table, and a line for everything else."""
        rows = [row for size in self.sizes for row in _rows(size)]
        header = ["milliseconds", "tiles", "visual", "kept", *COLUMNS]
        memory = (
            f"GPU memory: {self.memory.taken / MEGA:.0f} MB taken; engines "
            f"{self.memory.engines / MEGA:.0f} MB, activations "
            f"{self.memory.activations / MEGA:.0f} MB"
        )
        return "\n".join(
            [
                f"{self.backend} {self.precision} on {self.gpu}",
                table(header, rows),
                *(line for size in self.sizes for line in _lines(size)),
                memory,
                ", ".join(f"{name}: {value}" for name, value in self.state.items()),
            ]
        )


def _rows(size: EngineLatency) -> Iterator[list[str]]:
    for name, times in size.stages.items():
        ways = {"GPU": times.gpu, "CUDA graph": times.graph, "host": times.host}
        for way, latency in {**ways, "selection": times.selection}.items():
            if latency is not None:
                yield [
                    f"{name}, {way}",
                    *map(str, (size.tiles, size.visual_tokens, size.kept)),
                    *(f"{getattr(latency, column):.3f}" for column in COLUMNS),
                ]


def _lines(size: EngineLatency) -> Iterator[str]:
    """What is no time, and why a time is missing."""
    tiles = plural(size.tiles, "tile")
    speeds = size.tokens_per_second
    names = {"host": "on the host", "gpu": "on the GPU", "graph": "as a CUDA graph"}
    if speeds:
        said = ", ".join(f"{speed:.1f} {names[way]}" for way, speed in speeds.items())
        yield f"decode, {tiles}: tokens per second: {said}"
    for name, times in size.stages.items():
        if times.why_no_graph is not None:
            yield f"{name}, {tiles}: no CUDA graph: {times.why_no_graph}"
    if all(times.selection is None for times in size.stages.values()):
        for name, times in size.stages.items():
            yield f"{name}, {tiles}: no selection: {times.why_no_selection}"


@dataclass
class _Measuring:
    """What all measurements of a run have in common."""

    warmup: int
    iterations: int
    free_before: int
    least_free: int = field(init=False)

    def __post_init__(self) -> None:
        self.least_free = self.free_before

    def __call__(self, opened: OpenedEngine, call: Callable[[], object]) -> EngineTimes:
        times = time_engine(opened, call, warmup=self.warmup, iterations=self.iterations)
        self.least_free = min(self.least_free, cuda_runtime.memory()[0])
        return times


def bench_engines(
    bundle: Bundle,
    *,
    plugin: Path | None = None,
    tiles: Sequence[int] = (1,),
    warmup: int,
    iterations: int,
    progress: Progress,
) -> EngineBench:
    """Latency of a bundle's engines, for each number of tiles of noise.

    Args:
        plugin: library of the plugin; None: that of this installation.

    Raises:
        UsageError: the bundle has no engines, or they do not take so many tiles or calls.
        EnvironmentMismatch: they do not fit this machine.
    """
    engines = BuiltBundle(bundle, plugin)
    timed = _Measuring(warmup, iterations, cuda_runtime.memory()[0])
    vlm = bundle.manifest.scope == "vlm"
    generator = Generator(bundle, "tensorrt", plugin=plugin) if vlm else None
    runner = EngineVisionRunner(engines)
    sizes = []
    for count in tiles:
        with progress.stage(f"timing {plural(count, 'tile')}, {iterations} calls"):
            if generator is not None:
                sizes.append(_model(generator, count, timed))
            else:
                sizes.append(_vision(runner, count, timed))
    shared = engines.device.integrated
    state = gpu_state(None if shared else cuda_runtime.card())
    used = _opened(generator) if generator is not None else [runner.opened]
    memory = GpuMemory(
        sum(opened.engine.bytes for opened in used),
        sum(opened.engine.activation_bytes for opened in used),
        timed.free_before - timed.least_free,
    )
    name, precision = engines.device.name, bundle.manifest.precision
    return EngineBench(engines.backend, name, precision, tuple(sizes), memory, state)


def _vision(runner: EngineVisionRunner, tiles: int, timed: _Measuring) -> EngineLatency:
    """Scope `vision`. The plugin works on what the tower makes of noise."""
    inputs = noise(runner.bundle, tiles, np.random.default_rng(0))
    kept = len(runner.infer(inputs)[1])
    times = timed(runner.opened, lambda: runner.infer(inputs))
    return EngineLatency(tiles, len(inputs["token_grid"]), kept, {"vision": times})


def _model(generator: Generator, tiles: int, timed: _Measuring) -> EngineLatency:
    """Scope `vlm`: the stages of an answer."""
    asked = noise_question(generator, tiles, np.random.default_rng(0))
    tokens, decoder = len(asked.grid), generator.decoder
    vision, opened = _opened(generator)
    survived = decoder.prefill(decoder.start(), asked.prompt).positions
    sequence = decoder.start()
    decoder.prefill(sequence, asked.prompt)
    answer = itertools.cycle(asked.encoded.input_ids.tolist())
    stages = {
        "vision": timed(vision, lambda: generator.see(asked.encoded, [asked.pixels], [asked.grid])),
        "prefill": timed(opened, lambda: decoder.prefill(decoder.start(), asked.prompt)),
        "decode": timed(opened, lambda: decoder.step(sequence, next(answer))),
    }
    return EngineLatency(tiles, tokens, int((survived < tokens).sum()), stages)


def _opened(generator: Generator) -> list[OpenedEngine]:
    vision, decoder = generator.vision, generator.decoder
    assert isinstance(vision, EngineVisionRunner), "opened with --provider tensorrt"
    assert isinstance(decoder, EngineDecoderRunner), "opened with --provider tensorrt"
    return [vision.opened, decoder.opened]
