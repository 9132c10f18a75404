"""What headers of TensorRT declare: the names of their enums, and whether they say something.

Header sets come from the cache that `scripts/tensorrt_headers.py` fills.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "d2export" / "tensorrt"
VERSIONS = ("8.6.1", "10.3", "10.13", "10.16", "11.0", "11.1")

ENUM = re.compile(r"enum class (\w+)[^{};]*\{(.*?)\}", re.DOTALL)
ENUMERATOR = re.compile(r"k([A-Z][A-Z0-9_]*)")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


@cache
def text(version: str) -> str:
    """All headers of a version, or a skip that says how to get them."""
    folder = CACHE / version / "include"
    if not folder.is_dir():
        pytest.skip(
            f"headers of TensorRT {version}: python scripts/tensorrt_headers.py get {version}"
        )
    files = sorted(folder.glob("*.h"))
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


@cache
def enums(version: str) -> dict[str, tuple[str, ...]]:
    """Enumerators by enum, in order, without their `k`."""
    found: dict[str, tuple[str, ...]] = {}
    for name, body in ENUM.findall(COMMENT.sub("", text(version))):
        entries = (ENUMERATOR.match(entry.strip()) for entry in body.split(","))
        found.setdefault(name, tuple(entry[1] for entry in entries if entry))
    return found


def numbers(version: str) -> tuple[int, ...]:
    """`10.3` as numbers."""
    return tuple(map(int, version.split(".")))
