"""A bundle as one file, to be copied to a device: `tar xf` there makes the bundle again.

The same bundle gives the same bytes: names are sorted, times, owners and modes are fixed. Weights
are hard links to a checkpoint's shards of which the graphs may read a part; the rest of a shard is
left out as a hole (`sparse_file.py`), which the manifest's digests do not cover.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from d2export.bundle.disk import check_space
from d2export.bundle.folder import is_bundle
from d2export.engine.atomic_file import unfinished
from d2export.errors import OutputError
from d2export.packaging.contents import Part, open_whole, parts
from d2export.packaging.sparse_file import StoredFile, regions, sparse_map
from d2export.progress import Progress

SUMS = "SHA256SUMS"  # in the bundle's folder, as sha256sum reads it
TIME = 315532800  # 1980-01-01: GNU tar warns of a file from 1970
# Of each file in the archive: its header, a header of extended names, the padding of the three.
OVERHEAD = 8 * tarfile.BLOCKSIZE
END = tarfile.RECORDSIZE


@dataclass(frozen=True)
class Packed:
    """An archive: `holes` counts bytes of weight files that no graph reads, which were left out."""

    path: str
    bytes: int
    sha256: str
    files: int
    weights: int
    holes: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def text(self) -> str:
        """In words, with the commands for the device."""
        folder = f"the device: tar xf {Path(self.path).name}"
        left = f"; {size(self.holes)} of them, which no graph reads, left out" if self.holes else ""
        return (
            f"{self.path}: {self.files} files, {size(self.bytes)}\n"
            f"weights: {size(self.weights)}{left}\n"
            f"sha256: {self.sha256}\n"
            f"On {folder}"
        )


def write_tar(bundle_path: Path, out: Path, progress: Progress) -> Packed:
    """Write the bundle at `bundle_path` to the file `out`, whole or not at all.

    Raises:
        BundleError: the bundle is not what its manifest says.
        OutputError: `out` is taken or cannot be written, or the disk has no space for it.
    """
    refuse_taken(out)
    with progress.stage("comparing every file with its SHA-256"):
        bundle = open_whole(bundle_path)
    found = [part for part in parts(bundle) if part.path != SUMS]
    check_space(out.absolute(), sum(map(_most_bytes, found)) + OVERHEAD + END)
    with progress.stage(f"writing {out}"), unfinished(out) as part_file, part_file.open("wb") as f:
        hashing = _Hashing(f)
        with tarfile.open(fileobj=hashing, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add_all(archive, bundle.root.name, found, progress)
        f.flush()
        os.fsync(f.fileno())
        total = f.tell()
    weights = [part for part in found if part.used is not None or _is_weights(part.path)]
    kept = sum(stop - start for part in weights for start, stop in regions(part.used, part.bytes))
    whole = sum(part.bytes for part in weights)
    return Packed(str(out), total, hashing.digest.hexdigest(), len(found) + 1, whole, whole - kept)


def refuse_taken(out: Path) -> None:
    """Raise an OutputError if something is at `out`, or it lies in a bundle."""
    if os.path.lexists(out):
        raise OutputError(f"output {out} exists", "Choose another path, or remove it yourself.")
    for parent in out.absolute().parents:
        if is_bundle(parent):
            raise OutputError(f"output {out} lies in the bundle {parent}", "Choose another path.")


def size(count: int) -> str:
    """Bytes for a reader."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _most_bytes(part: Part) -> int:
    stored = sum(stop - start for start, stop in regions(part.used, part.bytes))
    return stored + OVERHEAD + 64 * len(part.used or ())  # a region takes two lines of the map


def _is_weights(path: str) -> bool:
    return path.startswith("onnx/") and not path.endswith(".onnx")


def _add_all(archive: tarfile.TarFile, root: str, found: list[Part], progress: Progress) -> None:
    sums = []
    for folder in [root, *(f"{root}/{one}" for one in _folders(found))]:
        archive.addfile(_entry(folder, 0, tarfile.DIRTYPE))
    for part in found:
        progress.detail(f"{part.path}, {size(part.bytes)}")
        sums.append(f"{_add(archive, root, part)}  {part.path}\n")
    text = "".join(sums).encode()
    archive.addfile(_entry(f"{root}/{SUMS}", len(text)), io.BytesIO(text))


def _folders(found: list[Part]) -> list[str]:
    inside = (parent.as_posix() for part in found for parent in Path(part.path).parents)
    return sorted({folder for folder in inside if folder != "."})


def _add(archive: tarfile.TarFile, root: str, part: Part) -> str:
    """Write one file; its SHA-256 when it is unpacked."""
    stored = regions(part.used, part.bytes)
    whole = stored == regions(None, part.bytes)
    content = StoredFile(
        part.source, part.bytes, stored, b"" if whole else sparse_map(stored, part.bytes)
    )
    name = f"{root}/{part.path}"
    entry = _entry(name, content.bytes)
    if not whole:
        folder, file = os.path.split(name)
        entry.name = f"{folder}/GNUSparseFile.0/{file}"  # for a reader that knows no such files
        entry.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": name,
            "GNU.sparse.realsize": str(part.bytes),
        }
    archive.addfile(entry, content)  # type: ignore[arg-type]
    content.read(1)  # past its end, where the digest is known
    return content.sha256


def _entry(name: str, count: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.mtime = count, kind, TIME
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry


class _Hashing(io.RawIOBase):
    """Writes to a file and remembers the SHA-256 of all that was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, content: Any, /) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def writable(self) -> bool:
        return True
