"""Where a task's pictures lie, and samples in an order in which pictures are opened once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats.entries import AS_IT_SHOULD_BE, Entry
from d2export.evaluation.task import Sample


def picture_folder(folder: Path, names: Sequence[str]) -> Path:
    """The first of several folders that is there.

    Args:
        folder: the task's.
        names: where pictures may lie, relative to it.

    Raises:
        UsageError: none is there.
    """
    for name in names:
        if (pictures := folder / name).is_dir():
            return pictures
    raise UsageError(
        f"{folder} has no folder of pictures, expected one of {', '.join(names)}",
        f"Put the pictures, or a link to their folder, at {folder / names[0]}.",
    )


def picture_file(pictures: Path, entry: Entry, key: str, ending: str = "") -> Path:
    """The file of an entry's picture; whether it is there shows when it is opened.

    Args:
        pictures: the folder it lies in.
        entry: what names it.
        key: of the name; of a path, such as `data/coco/train2014/x.jpg`, only the last part counts.
        ending: to add to the name, such as `.jpg`.
    """
    name = re.split(r"[/\\]", entry.text(key))[-1].strip()
    if name in ("", ".", "..") or "\0" in name:
        raise entry.wrong(key, "the name of a picture")
    return pictures / (name + ending)


def in_order(source: Path, samples: Iterable[Sample]) -> list[Sample]:
    """Samples of one picture side by side, pictures in the order in which they first come up.

    Args:
        source: where the samples are from, for messages.
        samples: in any order.

    Raises:
        UsageError: two samples have one id.
    """
    by_picture: dict[str, list[Sample]] = {}
    ids: set[str] = set()
    for sample in samples:
        if sample.id in ids:
            raise UsageError(f"{source}: two questions have the id '{sample.id}'", AS_IT_SHOULD_BE)
        ids.add(sample.id)
        by_picture.setdefault(sample.picture_id, []).append(sample)
    return list(itertools.chain.from_iterable(by_picture.values()))
