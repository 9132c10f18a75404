"""The CUDA toolkit, which compiles the plugin, and CUDA's runtime library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from d2export.doctor.system import System
from d2export.engine.target import Version
from d2export.engine.tensorrt_api import parse_version

RUNTIMES = (
    "/usr/local/cuda/lib64/libcudart.so.*",
    "/usr/local/cuda/targets/*/lib/libcudart.so.*",
    "/usr/lib/*-linux-gnu/libcudart.so.*",
)


@dataclass(frozen=True)
class Toolkit:
    """nvcc.

    Attributes:
        nvcc: the program.
        version: such as 12.6.
        compute_capabilities: that it compiles for; empty if it does not say.
    """

    nvcc: Path
    version: Version
    compute_capabilities: tuple[tuple[int, int], ...]


def toolkit(system: System) -> Toolkit | None:
    """The compiler that CMake would find; None if there is none that answers."""
    release = re.search(r"release (\d+\.\d+)", system.output("nvcc", "--version"))
    nvcc = system.program("nvcc")
    if release is None or nvcc is None:
        return None
    known = re.findall(r"compute_(\d+)(\d)\b", system.output("nvcc", "--list-gpu-arch"))
    return Toolkit(
        nvcc, parse_version(release[1]), tuple((int(major), int(minor)) for major, minor in known)
    )


def cuda_runtime(system: System) -> Version | None:
    """The newest libcudart of the system, in as many numbers as its file name has."""
    versions = [
        parse_version(path.name.removeprefix("libcudart.so."))
        for pattern in RUNTIMES
        for path in system.find(pattern)
    ]
    return max(versions, default=None)
