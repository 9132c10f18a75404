"""How long an engine takes: on the GPU by events, as a CUDA graph, on the host, by layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from d2export.engine.cuda_runtime import Event, Recorded
from d2export.engine.tensorrt_engine import Engine
from d2export.errors import EnvironmentMismatch
from d2export.runtime.built_engines import OpenedEngine
from d2export.verify.latency import Latency, latency_of, measure


@dataclass(frozen=True)
class EngineTimes:
    """One engine at one input size.

    Attributes:
        gpu: from event to event around the engine alone, its inputs on the GPU.
        graph: the same, replayed as a CUDA graph; None where `why_no_graph` says why.
        host: wall time of the whole call: inputs to the GPU, the engine, outputs back.
        selection: the plugin's layers, by TensorRT's profiler in runs of their own; None where
            `why_no_selection` says why.
    """

    gpu: Latency
    graph: Latency | None
    why_no_graph: str | None
    host: Latency
    selection: Latency | None
    why_no_selection: str | None


def time_engine(
    opened: OpenedEngine, call: Callable[[], object], *, warmup: int, iterations: int
) -> EngineTimes:
    """Time an engine.

    Args:
        call: runs it once; what it ran last is repeated.
        warmup: calls before each of the measurements.

    Raises:
        EnvironmentMismatch: TensorRT cannot run it.
    """
    engine = opened.engine
    host = measure(call, warmup=warmup, iterations=iterations)
    gpu = _between_events(engine, engine.again, warmup, iterations)
    graph, why_no_graph = _replayed(engine, warmup, iterations)
    selection, why_no_selection = _selection(opened, warmup, iterations)
    return EngineTimes(gpu, graph, why_no_graph, host, selection, why_no_selection)


def _between_events(
    engine: Engine, work: Callable[[], object], warmup: int, iterations: int
) -> Latency:
    for _ in range(warmup):
        work()
    engine.wait()
    start, end = Event(engine.stream), Event(engine.stream)
    times = np.empty(iterations)
    for index in range(iterations):
        start.record()
        work()
        end.record()
        engine.wait()
        times[index] = end.since(start)
    start.close()
    end.close()
    return latency_of(times)


def _replayed(engine: Engine, warmup: int, iterations: int) -> tuple[Latency | None, str | None]:
    """As a CUDA graph, or why not."""
    unknown = engine.outputs_unknown_before()
    if unknown:
        return None, f"the shape of {', '.join(unknown)} is not known before it runs"
    try:
        recorded = Recorded(engine.stream, engine.again)
    except EnvironmentMismatch as why:
        return None, " ".join(why.problem.split())
    try:
        return _between_events(engine, recorded.replay, warmup, iterations), None
    finally:
        recorded.close()


def _selection(
    opened: OpenedEngine, warmup: int, iterations: int
) -> tuple[Latency | None, str | None]:
    """The plugin's layers, with the copies that TensorRT puts before and behind them."""
    nodes = opened.plugin_layers
    if not nodes:
        return None, "no node of the plugin is in this engine"
    runs: list[float] = []
    seen = False

    def note(layer: str, milliseconds: float) -> None:
        nonlocal seen
        if any(node in layer for node in nodes):
            runs[-1] += milliseconds
            seen = True

    with opened.engine.profiled(note):
        for _ in range(warmup + iterations):
            runs.append(0.0)
            opened.engine.again()
            opened.engine.wait()
    if not seen:
        return None, f"TensorRT calls no layer {' or '.join(nodes)}"
    return latency_of(np.array(runs[warmup:])), None
