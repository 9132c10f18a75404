"""The devices that engines are built for: by name, from a file, or the one at hand."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from d2export.engine import cuda_driver
from d2export.engine.cuda_driver import Device
from d2export.engine.target import LEAST_COMPUTE_CAPABILITY, Target, TensorRTRange, version_text
from d2export.engine.target_file import OLDEST_GPU, read_target
from d2export.errors import EnvironmentMismatch, UsageError

__all__ = ["AUTO", "GENERIC", "Target", "TensorRTRange", "recognise", "target", "targets"]

AUTO, GENERIC = "auto", "generic"

# A wheel has the files in the package, see pyproject.toml; here they lie beside it.
PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "targets", PACKAGE.parent / "engines" / "targets")
NAME_ONE = "Pass --target NAME; `d2export targets` lists the names."


@cache
def targets() -> dict[str, Target]:
    """All targets by name: modules, then cards, each with less memory first; `generic` last."""
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    found = map(read_target, folder.glob("*.toml"))
    in_order = sorted(found, key=lambda one: (one.memory is None, not one.shared, one.memory or 0))
    return {one.name: one for one in in_order}


def target(name: str) -> Target:
    """The target that `--target` names.

    Args:
        name: of a target, a file that ends with `.toml`, or `auto` for this machine's GPU.

    Raises:
        UsageError: there is no such target, or the file is no device profile.
        EnvironmentMismatch: `auto`, and this machine has no GPU, or one that is too old.
    """
    if name == AUTO:
        return _this_machine()
    if name.endswith(".toml"):
        return read_target(Path(name))
    found = targets().get(name.lower())
    if found is not None:
        return found
    near = _near(name.lower())
    hint = f"Did you mean '{near}'? " if near else ""
    raise UsageError(
        f"unknown target '{name}': neither a device, a .toml file, nor '{AUTO}'",
        f"{hint}Targets: {', '.join(targets())}.",
    )


def recognise(devices: Sequence[Device]) -> Target:
    """The target that a machine with these GPUs is: its first one, which TensorRT uses.

    The memory is the GPU's own: an A100 may have 40 or 80 GB, a MIG slice less. What no target
    describes is `generic`, filled with what was seen.

    Raises:
        EnvironmentMismatch: there is no GPU, or it is too old.
    """
    if not devices:
        raise EnvironmentMismatch("this machine has no NVIDIA GPU that CUDA sees", NAME_ONE)
    device = devices[0]
    if device.compute_capability < OLDEST_GPU:
        raise EnvironmentMismatch(
            f"the GPU {device.name} has compute capability "
            f"{version_text(device.compute_capability)}, expected {version_text(OLDEST_GPU)} or "
            "newer",
            NAME_ONE,
        )
    for one in targets().values():
        if one.is_seen_in(device):
            return replace(one, memory=device.memory)
    generic = targets()[GENERIC]
    precisions = tuple(
        precision
        for precision in generic.precisions
        if LEAST_COMPUTE_CAPABILITY[precision] <= device.compute_capability
    )
    return replace(
        generic,
        description=device.name,
        compute_capability=device.compute_capability,
        memory=device.memory,
        shared=device.integrated,
        precisions=precisions,
    )


def _near(name: str) -> str | None:
    """The first target that has all words of a name, `jetson-nano`, else the one most alike."""
    words = set(name.split("-"))
    having = [one for one in targets() if words <= set(one.split("-"))]
    alike = difflib.get_close_matches(name, targets(), n=1, cutoff=0.5)
    return next(iter([*having, *alike]), None)


def _this_machine() -> Target:
    try:
        return recognise(cuda_driver.devices())
    except EnvironmentMismatch as error:
        raise EnvironmentMismatch(f"--target {AUTO}: {error.problem}", NAME_ONE) from None
