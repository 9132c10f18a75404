"""POPE: is there such a thing in the picture, yes or no; half of the time there is none.

Questions as in AoiDragon/POPE `output/coco/`, prompt and evaluation as in LLaVA's
`llava/eval/eval_pope.py`, which InternVL uses too. Where nothing is answered or true with yes,
precision, recall and F1 are 0; there the program divides by zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats.entries import Entry
from d2export.evaluation.formats.files import read_lines
from d2export.evaluation.formats.pictures import in_order, picture_file, picture_folder
from d2export.evaluation.formats.short_answers import short_answer_prompt
from d2export.evaluation.metrics import says_yes
from d2export.evaluation.task import Answer, Sample, Task

KINDS = ("random", "popular", "adversarial")
PLACES = ("coco_pope_{}.json", "coco_pope_{}.jsonl", "coco/coco_pope_{}.json")
PICTURES = ("val2014", "images", "../coco/val2014")
MAX_NEW_TOKENS = 100


def read_pope(folder: Path, limit: int | None) -> Task:
    """The questions whose files are in the folder, or in `coco` inside it.

    Args:
        folder: with `coco_pope_random.json` and the like.
        limit: questions of each kind; None is all.

    Raises:
        UsageError: no questions or no pictures are there; an entry is not as it should be.
    """
    there = {kind: path for kind in KINDS if (path := _file(folder, kind)) is not None}
    if not there:
        raise UsageError(
            f"{folder} has none of {', '.join(PLACES[0].format(kind) for kind in KINDS)}",
            "Put one of them there at least: docs/tasks.md says where they come from.",
        )
    pictures = picture_folder(folder, PICTURES)
    samples = (
        sample
        for kind, path in there.items()
        for sample in _samples(kind, pictures, read_lines(path, limit))
    )
    return Task(
        "pope",
        f"Whether an object is in the picture: {', '.join(there)} objects",
        in_order(folder, samples),
        dict.fromkeys(there, "accuracy"),
        lambda sample, answer: float(says_yes(answer) == (sample.truth == "yes")),
        further,
    )


def further(answers: Sequence[Answer]) -> Mapping[str, float]:
    """F1, which papers quote, precision and recall of yes, and how often yes is the answer."""
    said = [says_yes(answer.text) for answer in answers]
    true = [answer.sample.truth == "yes" for answer in answers]
    hits = sum(a and b for a, b in zip(said, true, strict=True))
    precision, recall = hits / max(1, sum(said)), hits / max(1, sum(true))
    return {
        "F1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "precision": precision,
        "recall": recall,
        "yes ratio": sum(said) / max(1, len(said)),
    }


def _file(folder: Path, kind: str) -> Path | None:
    places = (folder / place.format(kind) for place in PLACES)
    return next((path for path in places if path.exists()), None)


def _samples(kind: str, pictures: Path, entries: Iterator[Entry]) -> Iterator[Sample]:
    for entry in entries:
        picture = picture_file(pictures, entry, "image")
        yield Sample(
            id=f"{kind}-{entry.identity('question_id')}",
            kind=kind,
            picture=picture,
            picture_id=picture.name,
            prompt=short_answer_prompt(entry.text("text")),
            truth=entry.one_of("label", ("yes", "no")),
            max_new_tokens=MAX_NEW_TOKENS,
            chance=0.5,
        )
