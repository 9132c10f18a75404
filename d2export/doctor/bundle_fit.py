"""Whether a bundle runs on a machine: its ONNX graphs, and its engines if it has or wants any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from d2export.bundle.engine_records import (
    PLAN,
    BuiltEngine,
    BuiltEngines,
    PlannedEngines,
    read_built,
    read_planned,
)
from d2export.bundle.folder import Bundle, read_bundle
from d2export.doctor.accelerator import Accelerator
from d2export.doctor.finding import Finding, Fit
from d2export.engine.build_options import BuildOptions
from d2export.engine.engine_cache import file_sha256
from d2export.engine.misfit import Misfit
from d2export.engine.target import Target
from d2export.engine.targets import recognise
from d2export.engine_fit import misfits_here
from d2export.engine_planning import prepared_graphs
from d2export.errors import EnvironmentMismatch
from d2export.runtime import engine_misfits

BUILD_AGAIN = "Copy it again, or build the engines again: d2export build BUNDLE."


def fit_of_bundle(folder: Path, found: Accelerator, packages: Sequence[Finding]) -> Fit:
    """What keeps a bundle from being run here, and what would keep engines of it from being built.

    Built engines have to run here; else planned ones have to be built here. If it has neither,
    ONNX Runtime is all it needs, and what engines would need is worth knowing.

    Raises:
        BundleError: it is none, or damaged: it fits nowhere.
    """
    bundle = read_bundle(folder)
    built, planned = read_built(bundle), read_planned(bundle)
    misfits = list(_onnx_runtime(bundle, packages))
    cautions: list[Misfit] = []
    if built is not None:
        misfits += _built(bundle, planned, built, found)
    elif planned is not None:
        misfits += _planned(bundle, folder, planned.target, planned.options, found)
    else:
        cautions += _possible(bundle, folder, found)
    return Fit(_named(misfits, folder), _named(cautions, folder))


def _named(misfits: Sequence[Misfit], folder: Path) -> tuple[Misfit, ...]:
    """Each once, with the bundle's path in what to type."""
    named = (Misfit(one.problem, one.remedy.replace("BUNDLE", str(folder))) for one in misfits)
    return tuple(dict.fromkeys(named))


def _onnx_runtime(bundle: Bundle, packages: Sequence[Finding]) -> Iterator[Misfit]:
    installed = {finding.name: finding.found for finding in packages}
    if installed["onnxruntime"] is None:
        yield Misfit("it needs onnxruntime", "Run: pip install 'd2export[ort]'.")
    if bundle.manifest.precision == "bf16" and installed["onnx"] is None:
        yield Misfit("bfloat16 on the CPU needs the onnx package", "Run: pip install onnx.")


def _built(
    bundle: Bundle, planned: PlannedEngines | None, built: BuiltEngines, found: Accelerator
) -> Iterator[Misfit]:
    """Engines against this machine; their files against `engines.json`."""
    if planned is None:
        yield Misfit(f"{bundle.path(PLAN)}, by which the engines were built, is gone", BUILD_AGAIN)
    else:
        yield from engine_misfits.misfits(bundle, planned, built, found.plugin, found.machine)
    for engine in built.engines:
        problem = _damage(bundle, engine)
        if problem is not None:
            yield Misfit(problem, BUILD_AGAIN)


def _damage(bundle: Bundle, engine: BuiltEngine) -> str | None:
    path = bundle.path(engine.path)
    try:
        size = path.stat().st_size
        if size != engine.bytes:
            return f"{path} has {size} bytes, expected {engine.bytes}"
        if file_sha256(path) != engine.sha256:
            return f"{path} was changed after it was built: its SHA-256 is another"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None


def _planned(
    bundle: Bundle, folder: Path, device: Target, options: BuildOptions, found: Accelerator
) -> Iterator[Misfit]:
    """What `d2export build BUNDLE` would refuse."""
    prepared = prepared_graphs(bundle)
    for one in misfits_here(prepared, device, options, found.plugin, found.machine, folder):
        yield Misfit(f"engines for {device.name} cannot be built here: {one.problem}", one.remedy)


def _possible(bundle: Bundle, folder: Path, found: Accelerator) -> Iterator[Misfit]:
    """What `--target auto` would refuse; nothing where there are no TensorRT and GPU at all."""
    machine = found.machine
    if machine.device is None or machine.version is None:
        return
    try:
        device = recognise([machine.device])
    except EnvironmentMismatch:  # a misfit of the machine
        return
    prepared = prepared_graphs(bundle)
    for one in misfits_here(prepared, device, BuildOptions(), found.plugin, machine, folder):
        yield Misfit(f"engines of it could not be built here: {one.problem}", one.remedy)
