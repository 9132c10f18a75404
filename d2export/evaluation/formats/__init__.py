"""Tasks in published formats, read from a folder; nothing is downloaded."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats.gqa import read_gqa
from d2export.evaluation.formats.pope import read_pope
from d2export.evaluation.formats.refcoco import SPLITS, read_refcoco
from d2export.evaluation.formats.textvqa import FORMS, read_textvqa
from d2export.evaluation.task import Task

# From the name on the command line to what reads the task: its folder, entries of each kind.
READERS: dict[str, Callable[[Path, int | None], Task]] = {
    **{name: partial(read_refcoco, name) for name in SPLITS},
    "pope": read_pope,
    **{name: partial(read_textvqa, name) for name in FORMS},
    "gqa": read_gqa,
}


def read_task(name: str, folder: Path, *, limit: int | None = None) -> Task:
    """A task whose files are in a folder: docs/tasks.md.

    Entries are read and checked, in seconds for a hundred thousand; pictures are opened when a
    sample is asked for its own, and only then is one missed.

    Args:
        name: one of `READERS`.
        folder: with the task's files and a folder of pictures.
        limit: so many entries of each kind, in the order of the file; None is all.

    Raises:
        UsageError: an unknown name, a folder, file or folder of pictures that is not there, an
            entry that is not as it should be.
    """
    if name not in READERS:
        close = difflib.get_close_matches(name, READERS, 1)
        raise UsageError(
            f"there is no task '{name}'" + (f", did you mean '{close[0]}'?" if close else ""),
            f"There are {', '.join(READERS)}, each in a folder of files: docs/tasks.md.",
        )
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}, expected at least 1", "Leave it out for all entries.")
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder, expected the files of task {name}",
            "docs/tasks.md says which, and where they come from.",
        )
    return READERS[name](folder, limit)
