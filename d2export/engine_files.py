"""The engines of a bundle: as they were, from the cache, or built now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2export import __version__
from d2export.bundle.engine_records import (
    BUILT,
    SCHEMA,
    BuiltEngine,
    BuiltEngines,
    Gpu,
    PlannedEngines,
    read_built,
    write_record,
)
from d2export.bundle.folder import Bundle
from d2export.bundle.records import Tool
from d2export.engine import plugin as plugins
from d2export.engine.atomic_file import write_whole
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.cuda_driver import Device
from d2export.engine.engine_cache import EngineCache, cache_folder, engine_key, file_sha256
from d2export.engine.tensorrt import build_engine
from d2export.engine.this_machine import Machine
from d2export.engine_planning import Prepared
from d2export.progress import Progress

PLUGINS = "plugins"  # folder of the library that the engines were built with


def build_all(
    bundle: Bundle,
    planned: PlannedEngines,
    prepared: Sequence[Prepared],
    library: Path | None,
    machine: Machine,
    progress: Progress,
) -> BuiltEngines:
    """Build what is not there yet, and note each engine as soon as it is.

    Args:
        library: of the plugin; None if there is none.
        machine: on which nothing is missing.

    Raises:
        BundleError: a file of the bundle is not what the manifest says.
        EnvironmentMismatch: TensorRT refuses a graph.
        OutputError: something cannot be written.
    """
    trt, gpu = machine.trt, machine.device
    assert trt is not None, "looked for before"
    assert gpu is not None, "looked for before"
    before = read_built(bundle)
    known = {one.key: one for one in before.engines} if before is not None else {}
    if all(one.plan.plugin is None for one in planned.engines):
        library = None
    engines: list[BuiltEngine] = []
    result = None
    verified = False
    for planned_engine, one in zip(planned.engines, prepared, strict=True):
        plan = planned_engine.plan
        needed = library if plan.plugin is not None else None
        key = _key(bundle, plan, one.onnx, trt.__version__, gpu, needed)
        found = _as_before(bundle, known.get(key)) or _cached(bundle, plan, key)
        if found is None:
            if not verified:
                with progress.stage("comparing every file with its SHA-256"):
                    bundle.verify()
                verified = True
            progress.detail(f"the same by trtexec: {planned_engine.trtexec}")
            with progress.stage(f"building {plan.engine}, {plan.precision}"):
                found = _built(bundle, plan, key, trt, needed, progress)
        else:
            progress.note(f"{plan.engine}: nothing changed since it was built")
        engines.append(found)
        result = BuiltEngines(
            SCHEMA,
            Tool("d2export", __version__),
            planned.target.name,
            trt.__version__,
            Gpu(gpu.name, gpu.compute_capability, gpu.memory),
            _keep_plugin(bundle, library),
            tuple(engines),
        )
        write_record(bundle.path(BUILT), result)
    assert result is not None, "every bundle has a vision graph"
    return result


def _key(
    bundle: Bundle, plan: EnginePlan, onnx: bytes, tensorrt: str, gpu: Device, plugin: Path | None
) -> str:
    files = bundle.manifest.files.items()
    weights = [
        entry.sha256
        for path, entry in files
        if path.startswith("onnx/") and not path.endswith(".onnx")
    ]
    return engine_key(
        plan, graph=onnx, weights=weights, tensorrt=tensorrt, device=gpu, plugin=plugin
    )


def _as_before(bundle: Bundle, known: BuiltEngine | None) -> BuiltEngine | None:
    """An engine that was built for the same key, if it is what it was."""
    if known is None:
        return None
    path = bundle.path(known.path)
    return known if path.is_file() and file_sha256(path) == known.sha256 else None


def _cached(bundle: Bundle, plan: EnginePlan, key: str) -> BuiltEngine | None:
    """An engine out of the cache."""
    path = bundle.path(plan.engine)
    start = time.monotonic()
    sha256 = EngineCache(cache_folder()).fetch(key, path)
    if sha256 is None:
        return None
    seconds = time.monotonic() - start
    return BuiltEngine(plan.graph, plan.engine, path.stat().st_size, sha256, key, seconds)


def _built(
    bundle: Bundle,
    plan: EnginePlan,
    key: str,
    trt: Any,
    library: Path | None,
    progress: Progress,
) -> BuiltEngine:
    """A new engine, which the cache gets, too."""
    path = bundle.path(plan.engine)
    start = time.monotonic()
    build_engine(trt, plan, bundle.path(plan.onnx), path, library=library, progress=progress)
    seconds = time.monotonic() - start
    sha256 = file_sha256(path)
    EngineCache(cache_folder()).keep(key, path, sha256)
    return BuiltEngine(plan.graph, plan.engine, path.stat().st_size, sha256, key, seconds)


def _keep_plugin(bundle: Bundle, library: Path | None) -> str | None:
    """Leave the plugin in the bundle: whoever runs the engines needs the same one."""
    if library is None:
        return None
    inside = f"{PLUGINS}/{plugins.LIBRARY}"
    kept = bundle.path(inside)
    if not kept.is_file() or file_sha256(kept) != file_sha256(library):
        write_whole(kept, library.read_bytes())
    return inside
