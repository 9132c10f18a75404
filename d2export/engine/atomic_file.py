"""A file that holds its old or its new content, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from d2export.errors import OutputError


def write_whole(path: Path, content: Any) -> None:
    """Write bytes, or what has their interface, to `path`; missing folders are made.

    Raises:
        OutputError: it cannot be written.
    """
    with unfinished(path) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file beside `path` to write; it becomes `path` when the block ends, and else is gone.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}", "Free some space, or check the path."
        ) from None
    finally:
        with suppress(OSError):
            part.unlink()
