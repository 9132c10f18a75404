"""What the doctor finds, as records."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from d2export.engine.misfit import Misfit


@dataclass(frozen=True)
class Finding:
    """One thing looked for. `needed_for` is a command or stage; `remedy` is what to do."""

    name: str
    found: str | None
    needed_for: str
    remedy: str


@dataclass(frozen=True)
class NativePart:
    """A part of `plugins/`: how it was built, or else why it was not. `remedy` is what to type."""

    name: str
    built: str | None
    why_not: str
    remedy: str


@dataclass(frozen=True)
class Fit:
    """What keeps things from working with each other, and what is only worth knowing."""

    misfits: tuple[Misfit, ...] = ()
    cautions: tuple[Misfit, ...] = ()


@dataclass(frozen=True)
class Findings:
    """Everything looked for.

    Attributes:
        machine: what there is to compute with, in words.
        devices: GPU, driver, CUDA, TensorRT and plugin; on a Jetson also JetPack and power mode.
        packages: of Python.
        native: parts of `plugins/` in this installation.
        together: whether what is here for engines fits each other.
        bundle: the folder asked about.
        of_bundle: whether that fits this machine.
    """

    machine: dict[str, str]
    devices: tuple[Finding, ...]
    packages: tuple[Finding, ...]
    native: tuple[NativePart, ...]
    together: Fit
    bundle: str | None
    of_bundle: Fit

    @property
    def fits(self) -> bool:
        """Whether the bundle asked about runs here; without one, whether nothing contradicts."""
        asked = self.together if self.bundle is None else self.of_bundle
        return not asked.misfits

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "fits": self.fits}
