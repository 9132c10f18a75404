"""What is special about a Jetson: JetPack, its power mode, memory that the CPU shares."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2export.doctor.system import System

# JetPack by L4T release (NVIDIA's "JetPack Archive"). The package `nvidia-jetpack` says it itself,
# but an image may lack it; a release that is not here is shown as L4T alone.
JETPACKS = {
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "36.2.0": "6.0 DP",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "38.2.0": "7.0",
}


@dataclass(frozen=True)
class Jetson:
    """What runs on a Jetson.

    Attributes:
        l4t: Linux for Tegra, such as `36.4.3`.
        jetpack: None if it is not known which one that is.
        power_mode: name of it; None if nvpmodel does not say.
    """

    l4t: str
    jetpack: str | None
    power_mode: str | None


def jetson(system: System) -> Jetson | None:
    """The Jetson that this machine is; None if it is none."""
    l4t = _l4t(system)
    if l4t is None:
        return None
    package = system.package("nvidia-jetpack")
    jetpack = JETPACKS.get(l4t) if package is None else re.split(r"[+-]", package)[0]
    mode = re.search(r"^NV Power Mode:\s*(\S+)", system.output("nvpmodel", "-q"), re.MULTILINE)
    return Jetson(l4t, jetpack, mode[1] if mode else None)


def _l4t(system: System) -> str | None:
    """`# R36 (release), REVISION: 4.3, GCID: ...`, else by the package."""
    written = re.match(
        r"# R(\d+) \(release\), REVISION: ([\d.]+)", system.text("/etc/nv_tegra_release")
    )
    if written:
        return f"{written[1]}.{written[2]}"
    package = system.package("nvidia-l4t-core")
    return None if package is None else package.split("-")[0]
