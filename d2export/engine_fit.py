"""Whether this machine is the device that engines are planned for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from d2export.engine import plugin as plugins
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import misfits
from d2export.engine.misfit import Misfit
from d2export.engine.plugin_build import build_misfits
from d2export.engine.target import Target, version_text
from d2export.engine.tensorrt_api import api_of
from d2export.engine.this_machine import Machine
from d2export.engine_planning import Prepared
from d2export.errors import EnvironmentMismatch


def misfits_here(
    prepared: Sequence[Prepared],
    device: Target,
    options: BuildOptions,
    library: Path | None,
    machine: Machine,
    bundle: Path,
) -> list[Misfit]:
    """All that keeps engines of these graphs, for that device, from being built here.

    Args:
        library: of the plugin; None if none was found.
        bundle: as the user wrote it, for remedies.
    """
    found = [*machine.missing, *_other_device(device, machine, bundle)]
    if machine.version is not None:
        for one in prepared:
            found += misfits(one.graph, device, machine.version, options)
    found += _plugin_misfits(prepared, library, machine)
    return list(dict.fromkeys(found))


def _other_device(device: Target, machine: Machine, bundle: Path) -> Iterator[Misfit]:
    """That this machine's GPU is not the target's."""
    gpu = machine.device
    if gpu is None:
        return
    known = device.compute_capability in (None, gpu.compute_capability)
    if not known or (device.names and not device.is_seen_in(gpu)):
        yield Misfit(
            f"the engines are for {device.name}, this machine has a GPU {gpu.name} of compute "
            f"capability {version_text(gpu.compute_capability)} and {gpu.memory / 1e9:.1f} GB",
            f"For this machine, run: d2export build {bundle} --target auto",
        )


def _plugin_misfits(
    prepared: Sequence[Prepared], library: Path | None, machine: Machine
) -> Iterator[Misfit]:
    """That the plugin is needed and cannot be loaded, or would not run."""
    if machine.version is None or not any(one.graph.plugin_ops for one in prepared):
        return
    try:
        found = plugins.misfit(library, api_of(machine.version))
    except EnvironmentMismatch:
        return  # that version is a misfit by itself
    if found is not None:
        yield found
    elif library is not None:
        yield from build_misfits(library, machine.version, machine.cuda, machine.device)
