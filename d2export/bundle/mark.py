"""The mark in a folder that d2export may delete: one that is being built, or being replaced.

It holds the process id. It is written before anything else and removed after everything else, so
that whatever is left when a process is killed is known as ours.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BUILD_MARK = ".building"


def mark(folder: Path) -> None:
    """Put this process's mark into `folder`."""
    (folder / BUILD_MARK).write_text(str(os.getpid()), encoding="ascii")


def is_marked(folder: Path) -> bool:
    """Whether `folder` holds a mark, of any process."""
    return (folder / BUILD_MARK).is_file()


def owner(folder: Path) -> int | None:
    """The process id in the mark, None if there is none (yet, or any more)."""
    try:
        return int((folder / BUILD_MARK).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def unmark(folder: Path) -> None:
    """Remove the mark from `folder`: it is complete."""
    (folder / BUILD_MARK).unlink(missing_ok=True)


def empty(folder: Path) -> None:
    """Delete what a marked folder holds, except the mark."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != BUILD_MARK:
            path.unlink()


def delete(folder: Path) -> None:
    """Delete a marked folder, the mark last."""
    empty(folder)
    unmark(folder)
    folder.rmdir()
