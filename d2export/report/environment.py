"""Where figures were measured: the machine, the versions, the command."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from d2export.doctor import machine

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "polygraphy")
LEFT_OUT = {"free disk", "providers"}  # nothing that a figure depends on


def environment_of(provider: str, threads: int | None) -> dict[str, str]:
    """What is here, and how it was asked, by name.

    Args:
        provider: that the graphs ran on.
        threads: of one operator; all cores if None.
    """
    found = {key: value for key, value in machine().items() if key not in LEFT_OUT}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        **found,
        "provider": provider,
        "threads": "all cores" if threads is None else str(threads),
        "measured": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "command": _command(),
    }


def _command() -> str:
    """As it was typed; from another program its name alone, whose arguments are its own."""
    program = Path(sys.argv[0] or "python")
    if program.name == "d2export" or program.parts[-2:] == ("d2export", "__main__.py"):
        return shlex.join(["d2export", *sys.argv[1:]])
    return f"from Python: {program.name}"
