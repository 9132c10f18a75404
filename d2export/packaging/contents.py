"""The files of a bundle, one by one: what a copy of it has to contain."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from d2export.bundle.engine_records import read_built
from d2export.bundle.folder import MANIFEST, Bundle, read_bundle
from d2export.bundle.mark import BUILD_MARK
from d2export.engine.engine_cache import file_sha256
from d2export.errors import BundleError

UNFINISHED = ".unfinished"  # what a write that was killed leaves


@dataclass(frozen=True)
class Part:
    """A file of a bundle.

    Attributes:
        path: relative to the bundle, with `/` between the parts.
        source: where it lies.
        bytes: its size.
        used: ranges `[start, stop)` that the graphs read, ascending; None for the whole file.
    """

    path: str
    source: Path
    bytes: int
    used: tuple[tuple[int, int], ...] | None


def open_whole(path: Path) -> Bundle:
    """The bundle at `path`, after comparing every file and every engine with its SHA-256.

    Raises:
        BundleError: it is no bundle, or not what it was.
    """
    bundle = read_bundle(path)
    built = read_built(bundle)
    for engine in built.engines if built is not None else ():
        file = bundle.path(engine.path)
        found = file_sha256(file) if file.is_file() else None
        if found != engine.sha256:
            state = "is missing" if found is None else f"has the sha256 {found}"
            raise BundleError(
                f"{file} {state}, expected {engine.sha256} as engines/engines.json says",
                f"Build it again: d2export build {path}",
            )
    return bundle


def parts(bundle: Bundle) -> list[Part]:
    """Every file that lies in the bundle, listed in its manifest or not, sorted by path.

    Raises:
        BundleError: something in it is neither a file nor a folder, or leads out of it.
    """
    listed = bundle.manifest.files
    found = []
    for path in _files(bundle):
        source = bundle.path(path)
        entry = listed.get(path)
        found.append(Part(path, source, source.stat().st_size, entry.ranges if entry else None))
    return sorted(found, key=lambda part: part.path)


def _files(bundle: Bundle) -> list[str]:
    found = []
    for folder, folders, names in os.walk(bundle.root):
        for name in (*names, *(one for one in folders if Path(folder, one).is_symlink())):
            file = Path(folder, name)
            path = file.relative_to(bundle.root).as_posix()
            if name == BUILD_MARK or name.endswith(UNFINISHED):
                continue
            bundle.path(path)  # leads nowhere else
            if not file.exists() or not stat.S_ISREG(file.stat().st_mode):
                raise BundleError(
                    f"{file} is no file, expected files and folders only",
                    "Remove it, or copy the bundle with its links resolved: cp -rL BUNDLE COPY",
                )
            found.append(path)
    assert MANIFEST in found, "it was read"
    return found
