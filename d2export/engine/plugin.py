"""The TensorRT plugin: what it implements, where its library lies, whether that fits.

The library is looked at as a file. Nothing here loads it.
"""

from __future__ import annotations

import platform
from pathlib import Path

import d2export
from d2export.engine.misfit import Misfit
from d2export.engine.tensorrt_api import TensorRTApi
from d2export.pruning.parameters import DOMAIN, OP_TYPE, POSITIONS_OP_TYPE

OPS = (OP_TYPE, POSITIONS_OP_TYPE, "MaxMinPrune", "DppPrune", "DeduplicatePrune")
VERSION, NAMESPACE = "1", DOMAIN
LIBRARY = "libd2export_plugin.so"
BUILD_IT = (
    "Where TensorRT and the CUDA toolkit are, run: cd plugins && cmake --preset jetson-orin && "
    "cmake --build --preset jetson-orin (elsewhere: datacenter), then pass --plugin FILE."
)
# e_machine of an ELF header, and what `uname -m` calls it.
MACHINES = {62: "x86_64", 183: "aarch64"}
ELF_MACHINE = slice(18, 20)


def find_library() -> Path | None:
    """The library of this installation; never a bundle's, which may come from anywhere."""
    places = (Path(package) / "lib" / LIBRARY for package in d2export.__path__)
    return next((place for place in places if place.is_file()), None)


def misfit(library: Path | None, api: TensorRTApi) -> Misfit | None:
    """Why a library cannot be loaded here by a TensorRT of that kind; None if it can.

    Args:
        library: the file; None if none was found.
    """
    if library is None:
        return Misfit(f"the plugin {LIBRARY} is not there", BUILD_IT)
    try:
        content = library.read_bytes()
    except OSError as error:
        return Misfit(f"the plugin {library} cannot be read: {error.strerror}", BUILD_IT)
    if not content.startswith(b"\x7fELF"):
        return Misfit(f"the plugin {library} is no library", BUILD_IT)
    number = int.from_bytes(content[ELF_MACHINE], "little")
    machine = MACHINES.get(number, f"machine {number}")
    if machine != platform.machine():
        return Misfit(
            f"the plugin {library} is for {machine}, this machine is {platform.machine()}",
            BUILD_IT,
        )
    if b"\0" + api.plugin_entry.encode("ascii") + b"\0" not in content:
        return Misfit(
            f"the plugin {library} does not export {api.plugin_entry}, which TensorRT "
            f"{api.since[0]} calls",
            f"It was built for another TensorRT. {BUILD_IT}",
        )
    return None
