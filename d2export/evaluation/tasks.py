"""The tasks that can be evaluated, by name: one draws its own scenes, the others are in files."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats import READERS, read_task
from d2export.evaluation.scenes.task import NAME, SCENES, pocket_scenes
from d2export.evaluation.task import Task


def open_task(name: str, data: Path | None = None, samples: int | None = None) -> Task:
    """A task with all its samples.

    Args:
        name: `pocket-scenes`, `pocket-scenes:tune`, or one of `formats.READERS`.
        data: the folder of a task in files.
        samples: the first so many of each kind; None for all.

    Raises:
        UsageError: an unknown name, a folder that is missing or superfluous, or files that are not
            as they should be.
    """
    if samples is not None and samples < 1:
        raise UsageError(
            f"--samples is {samples}, expected at least 1", "Leave it out for all of the task."
        )
    drawn, _, split = name.partition(":")
    if drawn == NAME:
        if data is not None:
            raise UsageError(f"--data is {data}, but task {NAME} draws its own", "Leave it out.")
        task = pocket_scenes(split or "test", samples or SCENES)
        return replace(task, samples=tuple(task.samples))  # made once, asked for several times
    if name not in READERS:
        known = [NAME, *READERS]
        close = difflib.get_close_matches(name, known, 1)
        raise UsageError(
            f"there is no task '{name}'" + (f", did you mean '{close[0]}'?" if close else ""),
            f"There are {', '.join(known)}: docs/tasks.md.",
        )
    if data is None:
        raise UsageError(
            f"task {name} is read from files, and --data is missing",
            "Pass --data FOLDER; docs/tasks.md says what has to be in it.",
        )
    return read_task(name, data, limit=samples)
