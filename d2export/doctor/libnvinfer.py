"""TensorRT's library as the system has it: what trtexec and C++ programs link."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from d2export.doctor.system import System
from d2export.engine.target import Version
from d2export.engine.tensorrt_api import parse_version

FOLDERS = (
    "/usr/lib/*-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/tensorrt/lib",
    "/usr/local/TensorRT*/lib",
    "/opt/tensorrt/lib",
    "/usr/local/cuda/lib64",
)
# A link `libnvinfer.so.10` has the major version alone; the file it leads to has all of it.
LIBRARY = re.compile(r"libnvinfer\.so\.(\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class Libnvinfer:
    """The library: its file and version, and the CUDA that its Debian package was made for."""

    path: Path
    version: Version
    cuda: Version | None


def libnvinfer(system: System) -> Libnvinfer | None:
    """The one that a program finds first: by LD_LIBRARY_PATH, then in the system's folders."""
    set_by_user = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    for folder in (*filter(lambda one: one.startswith("/"), set_by_user), *FOLDERS):
        for path in system.find(f"{folder}/libnvinfer.so.*"):
            named = LIBRARY.fullmatch(path.name)
            if named:
                version = parse_version(named[1])
                return Libnvinfer(path, version, _cuda(system, version))
    return None


def _cuda(system: System, version: Version) -> Version | None:
    """`10.3.0.30-1+cuda12.5`: of the package of that version."""
    package = system.package(f"libnvinfer{version[0]}") or ""
    made_for = re.search(r"\+cuda(\d+\.\d+)", package)
    if made_for is None or parse_version(package.split("-")[0])[:3] != version:
        return None
    return parse_version(made_for[1])
