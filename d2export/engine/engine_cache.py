"""Engines that were built before: an unchanged build is a look-up.

A key says all that an engine depends on: the graph and its weights, everything in the plan, and the
TensorRT, the GPU and the plugin that built it. Beside each engine lies its SHA-256, so that one
that was damaged is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from d2export.engine.atomic_file import unfinished, write_whole
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.cuda_driver import Device
from d2export.errors import OutputError

CHUNK = 2**22


def cache_folder() -> Path:
    """Where engines of all bundles are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "d2export" / "engines"


def engine_key(
    plan: EnginePlan,
    *,
    graph: bytes,
    weights: Iterable[str],
    tensorrt: str,
    device: Device,
    plugin: Path | None,
) -> str:
    """SHA-256, in hexadecimal, of what an engine is made from.

    Args:
        graph: the ONNX for the parser.
        weights: SHA-256 of each weight file, in any order.
        tensorrt: its version, in full.
        device: the GPU; modules that CUDA calls the same are told apart by their memory.
        plugin: the library; None if the plan has none.
    """
    parts = asdict(plan)
    del parts["timing_cache"]  # it makes building faster, not the engine another
    parts |= {
        "graph_sha256": hashlib.sha256(graph).hexdigest(),
        "weights_sha256": sorted(weights),
        "tensorrt_in_full": tensorrt,
        "gpu": [device.name, *device.compute_capability, device.memory],
        "plugin_sha256": None if plugin is None else file_sha256(plugin),
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class EngineCache:
    """A folder of engines by their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, key: str, engine: Path) -> str | None:
        """Put the engine of a key at `engine`; its SHA-256, or None if there is none, or damaged.

        Raises:
            OutputError: it cannot be written there.
        """
        kept, digest = self._paths(key)
        try:
            wanted = digest.read_text(encoding="ascii").strip()
            found = file_sha256(kept)
        except (OSError, UnicodeDecodeError):
            return None
        if found != wanted:
            return None
        _place(kept, engine)
        return found

    def keep(self, key: str, engine: Path, sha256: str) -> None:
        """Remember an engine. A cache that cannot be written is none, and no error."""
        kept, digest = self._paths(key)
        with suppress(OSError, OutputError):
            self._folder.mkdir(parents=True, exist_ok=True)
            digest.unlink(missing_ok=True)  # written last: until then there is no engine
            _place(engine, kept)
            write_whole(digest, sha256.encode("ascii"))

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self._folder / f"{key}.plan", self._folder / f"{key}.sha256"


def _place(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy where that cannot be."""
    with unfinished(target) as part:
        part.unlink(missing_ok=True)
        try:
            part.hardlink_to(source)
        except OSError:  # another file system
            shutil.copyfile(source, part)
