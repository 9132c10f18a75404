"""One look at all of it."""

from __future__ import annotations

from pathlib import Path

from d2export.doctor.accelerator import accelerator
from d2export.doctor.bundle_fit import fit_of_bundle
from d2export.doctor.devices import rows
from d2export.doctor.finding import Findings, Fit
from d2export.doctor.machine import machine
from d2export.doctor.machine_fit import fit_of
from d2export.doctor.native_parts import native_parts
from d2export.doctor.packages import packages
from d2export.doctor.system import System

HERE = System()


def examine(
    bundle: Path | None = None, *, plugin: Path | None = None, system: System = HERE
) -> Findings:
    """Look at a machine and, if given, whether `bundle` runs on it.

    Args:
        plugin: library to look at; None: that of this installation.
        system: where to look; Python's packages are those of this process.

    Raises:
        BundleError: `bundle` is none, or damaged: it fits nowhere.
    """
    found, installed = accelerator(system, plugin), packages()
    return Findings(
        machine(),
        rows(found),
        installed,
        native_parts(),
        fit_of(found),
        None if bundle is None else str(bundle),
        Fit() if bundle is None else fit_of_bundle(bundle, found, installed),
    )
