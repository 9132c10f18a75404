"""What a disk says no to, in words: no space, no permission."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from d2export.errors import OutputError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_space(target: Path, need_bytes: int) -> None:
    """Raise an OutputError unless `need_bytes` are free where `target` will lie."""
    free = _free_bytes(target)
    if free < need_bytes:
        raise OutputError(
            f"no space for {target}: {_size(need_bytes)} needed, {_size(free)} free",
            "Free some space, or choose a path on another disk.",
        )


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Any OSError inside the block leaves it as an OutputError about `out`."""
    try:
        yield
    except OSError as error:
        refuse_full_disk(error, out)
        raise OutputError(
            f"cannot write {out}: {error.strerror}",
            "Choose a path inside a folder you may write to.",
        ) from error


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make `folder` and what is missing above it; if the block raises, remove what is empty.

    Raises:
        OutputError: a file is in the way.
        OSError: it cannot be made.
    """
    new: list[Path] = []
    try:
        for parent in [*reversed(folder.parents), folder]:
            if parent.exists() and not parent.is_dir():
                raise OutputError(f"{parent} is a file, expected a folder", "Choose another path.")
            if not parent.is_dir():
                parent.mkdir(exist_ok=True)
                new.append(parent)
        yield
    except BaseException:
        for parent in reversed(new):
            with suppress(OSError):  # not empty: somebody else uses it by now
                parent.rmdir()
        raise


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make sure that files can be written to `folder`, made if it is missing, before the block.

    Raises:
        OutputError: they cannot. Exceptions of the block pass unchanged.
    """
    with ExitStack() as undo:
        with explained(folder):
            undo.enter_context(made(folder))
            with TemporaryFile(dir=folder):
                pass
        yield


def replace_file(path: Path, text: str) -> None:
    """Write a file, in UTF-8, that holds its old or its new content whatever happens.

    Raises:
        OutputError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            with suppress(OSError):
                unfinished.unlink()


def refuse_full_disk(error: Exception, path: Path) -> None:
    """Raise an OutputError if `error`, or what it was raised from, says that the disk is full.

    `path` is named unless the error itself names the file.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            named = cause.filename2 or cause.filename
            full = Path(named) if isinstance(named, str) else path
            raise OutputError(
                f"no space left for {full}: {cause.strerror}; "
                f"{_size(_free_bytes(full))} free on its disk",
                "Free some space, or choose a path on another disk.",
            ) from error
        cause = cause.__cause__ or cause.__context__


def _free_bytes(path: Path) -> int:
    while not os.path.lexists(path):
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
