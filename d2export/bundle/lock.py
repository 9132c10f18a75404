"""One process at a time in a staging folder, and a clean folder for each.

The folder itself is locked (flock on its descriptor): the lock dies with its process, however that
ends, and no lock file stays behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from d2export.bundle.folder import is_bundle
from d2export.bundle.mark import delete, empty, is_marked, mark, owner
from d2export.errors import OutputError


@contextmanager
def locked(staging: Path, target: Path, what: str = "build") -> Iterator[None]:
    """Make, lock, mark and empty `staging`; delete it afterwards unless it was renamed.

    Args:
        target: names the output in messages.
        what: is written there.

    Raises:
        OutputError: another process holds it, or the folder was left by something else than
            d2export.
        OSError: it cannot be made.
    """
    while (descriptor := lock(staging, target, what)) is None:
        with suppress(FileExistsError):
            staging.mkdir()
    try:
        # A build killed between removing its mark and the rename leaves a whole bundle.
        if any(staging.iterdir()) and not is_marked(staging) and not is_bundle(staging):
            raise OutputError(
                f"{staging} is in the way, and no {what} of d2export left it",
                "Remove it, or choose another path.",
            )
        try:
            mark(staging)
            empty(staging)
            yield
        finally:
            if _is_open_as(descriptor, staging):
                with suppress(OSError):  # the error that led here matters more
                    delete(staging)
    finally:
        os.close(descriptor)


def lock(folder: Path, target: Path, what: str = "build") -> int | None:
    """A descriptor that locks `folder` until it is closed, wherever the folder is renamed to.

    None if there is no such folder, or it was renamed or deleted at this very moment.

    Raises:
        OutputError: another process has the lock, or the file system has no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_open_as(descriptor, folder):
            return descriptor
    except BlockingIOError:
        os.close(descriptor)
        pid = owner(folder)
        raise OutputError(
            f"another {what} is writing to {target}" + (f" (pid {pid})" if pid else ""),
            "Wait for it to end, or choose another path.",
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise OutputError(
            f"the file system of {target} cannot lock a folder: {error.strerror}",
            "Build on a local disk, then copy the bundle.",
        ) from None
    os.close(descriptor)
    return None


def _is_open_as(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
