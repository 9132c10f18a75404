"""The pictures of a folder, in an order that does not change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2export.errors import UsageError

SUFFIXES = (  # of images.FORMATS
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
NAMES_SHOWN = 5


def picture_files(folder: Path, limit: int | None) -> list[Path]:
    """The picture files in a folder, or the first `limit` of them, in the order of their names.

    Raises:
        UsageError: the folder cannot be read or holds none.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}, expected at least 1", "Leave it out for all.")
    try:
        files = sorted(
            path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()
        )
    except OSError as error:
        raise UsageError(
            f"cannot read the folder {folder}: {error.strerror}", "Pass --images FOLDER."
        ) from None
    if not files:
        raise UsageError(
            f"{folder} holds no pictures: no file ends with {', '.join(SUFFIXES)}",
            "Pass a folder of PNG or JPEG files; folders within it are not searched.",
        )
    return files[:limit]


def text_name(file: Path) -> str:
    """Its name as JSON can hold it: bytes that are no UTF-8 are written out."""
    return file.name.encode("utf-8", "backslashreplace").decode()


def named(names: Sequence[str]) -> str:
    """A list that stays short."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
