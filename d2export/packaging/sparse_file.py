"""A file with holes, as GNU tar writes it: format 1.0 of its sparse files in POSIX archives.

https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html. In the archive a map comes
first: decimal numbers, a line each, how many regions there are and where each begins and how long
it is; then the regions. GNU tar, bsdtar and Python's tarfile restore the file at its full size with
zeros in the holes, which take no space on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2export.errors import BundleError

BLOCK = 512  # bytes; GNU tar begins every region at a block of the archive
CHUNK = 2**20
ZEROS = bytes(CHUNK)

Region = tuple[int, int]  # [start, stop)


def regions(used: Sequence[Region] | None, size: int) -> list[Region]:
    """What to store of a file: the ranges in use, whole blocks of it; all of it for None."""
    if used is None:
        return [(0, size)] if size else []
    found: list[Region] = []
    for start, stop in used:
        start, stop = start // BLOCK * BLOCK, min(-(-stop // BLOCK) * BLOCK, size)
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def sparse_map(stored: Sequence[Region], size: int) -> bytes:
    """The map in front of the regions. A hole at the end is a region of no bytes there."""
    listed = [*stored]
    if not listed or listed[-1][1] < size:
        listed.append((size, size))
    numbers = [len(listed), *(n for start, stop in listed for n in (start, stop - start))]
    text = "".join(f"{number}\n" for number in numbers).encode("ascii")
    return text + bytes(-len(text) % BLOCK)


class StoredFile:
    """What is stored of a file, to be read once, from beginning to end.

    Attributes:
        bytes: how many there are to read.
        sha256: of the file as it will be restored, holes as zeros; after the last byte was read.

    Args:
        source: the file.
        size: its size.
        stored: of it, by `regions`.
        header: comes first.

    Raises:
        BundleError: while reading, the file is shorter than it was.
    """

    def __init__(self, source: Path, size: int, stored: Sequence[Region], header: bytes) -> None:
        self._source, self._size, self._stored = source, size, stored
        self.bytes = len(header) + sum(stop - start for start, stop in stored)
        self.sha256 = ""
        self._left, self._chunks = header, self._read()

    def read(self, count: int) -> bytes:
        """The next bytes: `count` of them, or fewer at the end."""
        while len(self._left) < count and (chunk := next(self._chunks, b"")):
            self._left += chunk
        found, self._left = self._left[:count], self._left[count:]
        return found

    def _read(self) -> Iterator[bytes]:
        digest, at = hashlib.sha256(), 0
        with self._source.open("rb") as file:
            for start, stop in self._stored:
                _skip(digest, start - at)
                file.seek(start)
                at = start
                while at < stop:
                    chunk = file.read(min(CHUNK, stop - at))
                    if not chunk:
                        raise BundleError(
                            f"{self._source} ends at byte {at}, expected {self._size}",
                            "Was it changed just now? Pack the bundle again.",
                        )
                    digest.update(chunk)
                    at += len(chunk)
                    yield chunk
        _skip(digest, self._size - at)
        self.sha256 = digest.hexdigest()


def _skip(digest: hashlib._Hash, zeros: int) -> None:
    while zeros:
        count = min(zeros, CHUNK)
        digest.update(memoryview(ZEROS)[:count])
        zeros -= count
