"""The C++ runtime's test libraries, built by CMake."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.plugins.custom_op import header_sets

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "engines" / "runtime"
BUILD = ROOT / "build" / "runtime-tests"


def build(target: str) -> Path:
    """A library, built, or what changed of it."""
    make(target)
    (library,) = BUILD.rglob(f"lib{target}.so")
    return library


def make(*targets: str, folder: Path = BUILD, settings: Sequence[str] = ()) -> None:
    """Builds targets, or what changed of them; one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = f"-DORT_INCLUDE_DIR={next(iter(header_sets()), '')}"  # the oldest, if there is one
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("cmake", "-S", SOURCE, "-B", folder, "-DD2EXPORT_TESTS=ON", headers, *settings)
        run("cmake", "--build", folder, "--target", *targets, "--parallel", "2")


def run(*command: str | Path, code: int = 0) -> str:
    """What a command printed to either stream; it has to end with the exit code."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
