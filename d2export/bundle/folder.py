"""A bundle: the folder that a build leaves behind and everything after it starts from.

    manifest.json                       read and validated before anything else is opened
    onnx/vision.onnx, onnx/prune.onnx   the graphs
    onnx/*.safetensors                  their weights, hard links to the checkpoint or copies
    processor/                          tokenizer files
    reference/*.npz, pictures/          stored inputs and PyTorch's answers
    report.json, report.html, build.log

A path inside a bundle is relative and leads nowhere else, not through a symbolic link either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from d2export.bundle.manifest import BUILD_AGAIN, Manifest
from d2export.bundle.mark import BUILD_MARK
from d2export.bundle.records import FileEntry, RelativePath
from d2export.bundle.strict_json import JsonError, decode, parse
from d2export.errors import BundleError

MANIFEST = "manifest.json"
ENGINE_LATENCY = "engine-latency.json"
UNLISTED = frozenset(
    {MANIFEST, "report.json", "report.html", ENGINE_LATENCY, "build.log", BUILD_MARK}
)
MAX_MANIFEST_BYTES = 16 * 2**20
CHUNK = 2**20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; `root` is absolute."""

    root: Path
    manifest: Manifest

    def path(self, relative: str) -> Path:
        """Where `relative` lies.

        Raises:
            BundleError: it is not a relative path, or leads out of the bundle.
        """
        return _inside(self.root, relative)

    def verify(self) -> None:
        """Compare every listed file with its entry.

        Raises:
            BundleError: a file is missing, or its size or SHA-256 differs.
        """
        for relative, entry in self.manifest.files.items():
            _verify_file(self.path(relative), entry)


def read_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Open the bundle at `path`; with `verify`, read and compare every file it lists.

    Raises:
        BundleError: not a bundle, damaged, edited, from a newer d2export, or reaching outside.
    """
    root = _folder(path)
    where = root / MANIFEST
    try:
        value = parse(_read_manifest(root))
    except JsonError as mismatch:
        raise BundleError(f"{where} is damaged: it is {mismatch.found}", BUILD_AGAIN) from None
    bundle = Bundle(root, Manifest.from_json(value, where))
    for relative in bundle.manifest.files:
        bundle.path(relative)
    if verify:
        bundle.verify()
    return bundle


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a manifest that names d2export as its tool, valid or not."""
    try:
        value = parse(_read_manifest(folder))
    except (BundleError, JsonError):
        return False
    tool = value.get("tool") if isinstance(value, dict) else None
    return isinstance(tool, dict) and tool.get("name") == "d2export"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `folder`, after making sure that it can be read back.

    Raises:
        BundleError: the manifest contradicts itself.
    """
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False)
    Manifest.from_json(parse(text), folder / MANIFEST)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def file_entry(path: Path, ranges: Sequence[tuple[int, int]] | None = None) -> FileEntry:
    """The entry of a file; with `ranges` of bytes `[start, stop)`, in any order, of these alone."""
    merged = None if ranges is None else _merge(ranges)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        return FileEntry(size, _sha256(file, size, merged), merged)


def file_entries(
    folder: Path, ranges: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, FileEntry]:
    """The entries of all files in `folder` that a manifest lists; `ranges` by relative path."""
    relatives = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {
        relative: file_entry(folder / relative, ranges.get(relative))
        for relative in sorted(relatives)
        if relative not in UNLISTED
    }


def _folder(path: Path) -> Path:
    try:
        root = path.resolve()
        if root.is_dir():
            return root
        found = "a file" if root.exists() else "not there"
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, NUL in the name
        found = f"not readable ({error})"
    raise BundleError(f"{path} is {found}, expected the folder of a bundle", "Check the path.")


def _read_manifest(root: Path) -> str:
    path = root / MANIFEST
    try:
        if not path.is_file():
            raise BundleError(
                f"{root} is not a bundle: it has no {MANIFEST}, which a build writes last",
                "Check the path, or build it: d2export build --help. "
                "A build that was interrupted never leaves a bundle.",
            )
        with _inside(root.resolve(), MANIFEST).open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"cannot read {path}: {error.strerror}", "Check its permissions."
        ) from None
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes", BUILD_AGAIN)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is damaged: not UTF-8 ({error})", BUILD_AGAIN) from None


def _inside(root: Path, relative: str) -> Path:
    try:
        path = root / decode(RelativePath, relative)
        resolved = path.resolve()
    except JsonError as mismatch:
        raise BundleError(
            f"{root}: a path is {mismatch.found}, expected {mismatch.expected}", BUILD_AGAIN
        ) from None
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{root / relative} cannot be followed: {error}", BUILD_AGAIN) from None
    if not resolved.is_relative_to(root):
        raise BundleError(
            f"{path} leads out of the bundle, to {resolved}",
            "Copy the bundle with its links resolved: cp -rL BUNDLE COPY",
        )
    return path


def _verify_file(path: Path, entry: FileEntry) -> None:
    try:
        if not path.is_file():
            raise BundleError(f"{path} is missing", BUILD_AGAIN)
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size != entry.bytes:
                raise BundleError(
                    f"{path} has {size} bytes, expected {entry.bytes} as {MANIFEST} says",
                    BUILD_AGAIN,
                )
            found = _sha256(file, size, entry.ranges)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}", BUILD_AGAIN) from None
    if found != entry.sha256:
        raise BundleError(
            f"{path} was changed after the build: its sha256 is {found}, expected {entry.sha256}",
            BUILD_AGAIN,
        )


def _sha256(file: BinaryIO, size: int, ranges: Sequence[tuple[int, int]] | None) -> str:
    digest = hashlib.sha256()
    for start, stop in [(0, size)] if ranges is None else ranges:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
            digest.update(chunk)
            start += len(chunk)
    return digest.hexdigest()


def _merge(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        elif start < stop:
            merged.append((start, stop))
    return tuple(merged)
