"""Programs of the C++ runtime: those of its tests, and the examples, built from an installation."""

from __future__ import annotations

import fcntl
from functools import cache
from pathlib import Path

from tests.runtime_cpp.drivers import BUILD, ROOT, make, run

EXAMPLES = ROOT / "engines" / "examples"
PREFIX = ROOT / "build" / "runtime-prefix"  # not in BUILD, where libraries are found by name


def program(name: str, folder: Path = BUILD, settings: tuple[str, ...] = ()) -> Path:
    """A program of the tests, built."""
    make(name, folder=folder, settings=settings)
    return folder / "tests" / name


@cache
def installed(build: Path = BUILD) -> Path:
    """The prefix that the library is installed to, with headers and CMake's package."""
    prefix = PREFIX if build == BUILD else build.with_name(f"{build.name}-prefix")
    make("d2export_runtime", "d2export_runtime_static", folder=build)
    with (build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for component in ("runtime", "development"):
            run("cmake", "--install", build, "--prefix", prefix, "--component", component)
    return prefix


@cache
def example(name: str, build: Path = BUILD) -> Path:
    """An example, built against the prefix alone."""
    prefix, folder = installed(build), build / "examples" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("cmake", "-S", EXAMPLES / name, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}")
        run("cmake", "--build", folder)
    return folder / name
