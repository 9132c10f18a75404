"""How long a bundle takes here: its graphs in ONNX Runtime, or its engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2export.bundle.folder import Bundle, read_bundle
from d2export.engine.optimization_profiles import most_tiles
from d2export.errors import UsageError
from d2export.progress import Progress
from d2export.runtime.generate import Generator
from d2export.runtime.runners import open_vision, refuse_threads
from d2export.verify import engine_latency
from d2export.verify.engine_latency import EngineBench
from d2export.verify.latency import StageLatency, bench_vision
from d2export.verify.tables import plural
from d2export.verify.vlm_latency import VlmLatency, bench_vlm


def bench(
    bundle: Path | str,
    *,
    tiles: Sequence[int] = (1,),
    warmup: int = 3,
    iterations: int = 20,
    provider: str = "cpu",
    threads: int | None = None,
    plugin: Path | None = None,
    progress: Progress | None = None,
) -> list[StageLatency] | list[VlmLatency]:
    """Latency of a bundle's graphs in ONNX Runtime and of selection, for each number of tiles."""
    progress = progress or Progress(level="quiet")
    opened = _to_time(bundle, tiles, warmup, iterations)
    calls = {"warmup": warmup, "iterations": iterations}
    vlm = opened.manifest.scope == "vlm"
    generator = Generator(opened, provider, threads, plugin=plugin) if vlm else None
    runner = open_vision(opened, provider, threads, plugin)
    stages: list[Any] = []
    for count in tiles:
        with progress.stage(f"timing {plural(count, 'tile')}, {iterations} calls"):
            if generator is not None:
                stages.append(bench_vlm(generator, count, **calls))
            else:
                stages.append(bench_vision(runner, count, **calls))
    return stages


def bench_engines(
    bundle: Path | str,
    *,
    tiles: Sequence[int] = (1,),
    warmup: int = 3,
    iterations: int = 20,
    threads: int | None = None,
    plugin: Path | None = None,
    progress: Progress | None = None,
) -> EngineBench:
    """Latency of a bundle's engines and of selection in them, for each number of tiles.

    Args:
        threads: nothing that an engine has.
        plugin: library of TensorRT's plugin; None: that of this installation.

    Raises:
        UsageError: the bundle has no engines.
        EnvironmentMismatch: they do not fit this machine.
    """
    refuse_threads(threads)
    opened = _to_time(bundle, tiles, warmup, iterations)
    return engine_latency.bench_engines(
        opened,
        plugin=plugin,
        tiles=tiles,
        warmup=warmup,
        iterations=iterations,
        progress=progress or Progress(level="quiet"),
    )


def _to_time(bundle: Path | str, tiles: Sequence[int], warmup: int, iterations: int) -> Bundle:
    """The bundle, after making sure that what is to be timed can be.

    Raises:
        UsageError: a number is too small or too large.
    """
    if iterations < 1 or warmup < 0:
        raise UsageError(
            f"--iterations is {iterations} and --warmup is {warmup}, expected at least 1 and 0",
            "Leave them out for 20 and 3.",
        )
    opened = read_bundle(Path(bundle))
    limit = most_tiles(opened.manifest.model.vision)
    for count in tiles:
        if not 1 <= count <= limit:
            raise UsageError(f"--tiles is {count}, expected 1 to {limit}", "Leave it out for 1.")
    return opened
