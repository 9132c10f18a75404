"""Do engines that were built somewhere run on this machine? Told from what the bundle says of them.

TensorRT ties an engine to its own version and to the GPU; the plugin has to be the one that the
engine was built with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from d2export.bundle.engine_records import BuiltEngines, PlannedEngines
from d2export.bundle.folder import Bundle
from d2export.engine import plugin as plugins
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.cuda_driver import Device
from d2export.engine.engine_cache import file_sha256
from d2export.engine.misfit import Misfit
from d2export.engine.plugin_build import build_misfits
from d2export.engine.target import version_text
from d2export.engine.tensorrt_api import VERSION_COMPATIBLE, api_of, parse_version
from d2export.engine.this_machine import Machine
from d2export.errors import EnvironmentMismatch

# Modules that CUDA calls the same differ by more in memory; what a kernel reserves, by less.
SAME_MEMORY = 1 / 8
AMPERE = (8, 0)
SHOWN_DIGITS = 12  # of a SHA-256 in a message


def misfits(
    bundle: Bundle,
    planned: PlannedEngines,
    built: BuiltEngines,
    library: Path | None,
    machine: Machine,
) -> Iterator[Misfit]:
    """Why engines cannot run on a machine.

    Args:
        library: of the plugin; None if there is none.
    """
    yield from machine.missing
    plans = [one.plan for one in planned.engines]
    if machine.trt is not None:
        yield from _other_tensorrt(plans, built.tensorrt, machine.trt.__version__)
    if machine.device is not None:
        yield from _other_gpu(plans, built, machine.device)
    if machine.version is not None and built.plugin is not None:
        yield from _other_plugin(bundle, built.plugin, library, machine)


def _other_tensorrt(plans: Sequence[EnginePlan], before: str, here: str) -> Iterator[Misfit]:
    ours, theirs = parse_version(here), parse_version(before)
    compatible = all(VERSION_COMPATIBLE in plan.builder_flags for plan in plans)
    if ours == theirs or (compatible and ours > theirs):
        return
    allowed = f"{before} or newer" if compatible else before
    yield Misfit(
        f"the engines were built by TensorRT {before}, this machine has TensorRT {here}",
        f"Install TensorRT {allowed}, or build the engines again with this one.",
    )


def _other_gpu(
    plans: Sequence[EnginePlan], built: BuiltEngines, device: Device
) -> Iterator[Misfit]:
    gpu = built.gpu
    if all(plan.hardware_compatibility != "NONE" for plan in plans):
        if device.compute_capability >= AMPERE:
            return
    elif (gpu.name, gpu.compute_capability) == (device.name, device.compute_capability) and abs(
        gpu.memory - device.memory
    ) <= SAME_MEMORY * gpu.memory:
        return
    yield Misfit(
        f"the engines were built for {_gpu(gpu.name, gpu.compute_capability, gpu.memory)}, this "
        f"machine has {_gpu(device.name, device.compute_capability, device.memory)}",
        "Build the engines on the GPU that is to run them.",
    )


def _gpu(name: str, capability: tuple[int, int], memory: int) -> str:
    return (
        f"a GPU {name} of compute capability {version_text(capability)} and {memory / 1e9:.1f} GB"
    )


def _other_plugin(
    bundle: Bundle, inside: str, library: Path | None, machine: Machine
) -> Iterator[Misfit]:
    """That the plugin cannot be loaded, or is not the one that the engines were built with."""
    assert machine.version is not None, "looked at before"
    try:
        found = plugins.misfit(library, api_of(machine.version))
    except EnvironmentMismatch as error:
        yield Misfit(error.problem, error.hint or "")
        return
    kept = bundle.path(inside)
    if found is not None:
        yield Misfit(found.problem, f"{found.remedy}\nThe engines were built with {kept}.")
        return
    assert library is not None, "that is a misfit"
    yield from build_misfits(library, machine.version, machine.cuda, machine.device)
    if kept.is_file() and file_sha256(kept) != file_sha256(library):
        yield Misfit(
            f"the engines were built with the plugin {kept} (SHA-256 {shown_digits(kept)}), not "
            f"with {library} (SHA-256 {shown_digits(library)})",
            f"If you trust this bundle, pass --plugin {kept}; else build the engines again.",
        )


def shown_digits(file: Path) -> str:
    """The first digits of a file's SHA-256."""
    return f"{file_sha256(file)[:SHOWN_DIGITS]}..."
