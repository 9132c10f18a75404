"""A folder that appears at its path complete or not at all.

The work goes into `.NAME.partial` beside it, which is renamed at the end. A replaced bundle waits
as `.NAME.replaced` until the new one is in place. What a killed build left of either is put right
by the next build to the same path.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from d2export.bundle.disk import check_space, explained, made, refuse_full_disk
from d2export.bundle.folder import is_bundle
from d2export.bundle.lock import lock, locked
from d2export.bundle.mark import delete, is_marked, mark, unmark
from d2export.errors import OutputError


@contextmanager
def staged(out: Path, *, force: bool = False, need_bytes: int = 0) -> Iterator[Path]:
    """A folder to fill; it becomes `out` when the block ends, and is gone if the block raises.

    Args:
        out: where the result appears; a symbolic link is followed, missing parents are made.
        force: replace a bundle that is there. Anything else but an empty folder stays an error.
        need_bytes: refuse at once if the file system has less than this free.

    Raises:
        OutputError: `out` is taken, being built by another process, or cannot be written, or the
            disk is full, then or during the block. Other exceptions of the block pass unchanged.
    """
    with ExitStack() as undo:
        with explained(out):
            target = _target(out)
            staging = target.with_name(f".{target.name}.partial")
            undo.enter_context(made(target.parent))
            undo.enter_context(locked(staging, target))
            _recover(target)
            _replaces(target, force)
            check_space(target, need_bytes)
        try:
            yield staging
        except Exception as error:
            refuse_full_disk(error, staging)
            raise
        with explained(out):
            _publish(staging, target, force)


def _target(out: Path) -> Path:
    try:
        target = out.resolve()
    except (RuntimeError, ValueError) as error:  # a loop of links, NUL in the name
        raise OutputError(f"output {out} is no path: {error}", "Choose another path.") from None
    if any("\ud800" <= character <= "\udfff" for character in str(target)):
        raise OutputError(f"output {target} is not UTF-8", "Choose a path ONNX Runtime can open.")
    if Path.cwd().is_relative_to(target):
        raise OutputError(
            f"output {out} is the current folder or one above it", "Choose a folder of its own."
        )
    for parent in target.parents:
        if is_bundle(parent):
            raise OutputError(f"output {out} lies in the bundle {parent}", "Choose another path.")
    if os.path.ismount(target) and target.is_dir():
        raise OutputError(
            f"output {out} is a mount point, which a finished build cannot be renamed to",
            f"Choose a folder in it: {out}/bundle",
        )
    return target


def _replaces(target: Path, force: bool) -> bool:
    """Whether `target` holds a bundle that must be replaced; raises unless it may be written."""
    if not os.path.lexists(target):
        return False
    if not target.is_dir():
        raise OutputError(f"output {target} exists and is no folder", "Choose another path.")
    if not any(target.iterdir()):
        return False
    if not is_bundle(target):
        raise OutputError(
            f"output {target} is not empty and not a bundle, so it will not be deleted",
            "Choose another path, or remove the folder yourself.",
        )
    if not force:
        raise OutputError(
            f"output {target} already holds a bundle", "Choose another path, or add --force."
        )
    return True


def _publish(staging: Path, target: Path, force: bool) -> None:
    unmark(staging)
    for folder, _, files in os.walk(staging):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    # Asked again: the build took its time. The lock on the old bundle moves aside with it, so that
    # the next build, which may start as soon as `staging` is renamed, keeps its hands off.
    if _replaces(target, force) and (descriptor := lock(target, target)) is not None:
        try:
            target.rename(_old(target))
            staging.rename(target)
        finally:
            _settle(target)
            os.close(descriptor)
    else:
        staging.rename(target)  # fails if anything but an empty folder appeared just now
    _sync(target.parent)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _recover(target: Path) -> None:
    """End the replacement that a killed build left half-way."""
    descriptor = lock(_old(target), target)
    if descriptor is not None:
        try:
            _settle(target)
        finally:
            os.close(descriptor)


def _settle(target: Path) -> None:
    """Delete the old bundle, or put it back if no new one took its place."""
    old = _old(target)
    if is_bundle(old) and not is_marked(old):
        if not os.path.lexists(target):
            old.rename(target)
            return
        mark(old)  # from here on it is incomplete
    if is_marked(old):
        delete(old)


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
