"""GQA: questions on what is where and like what, answered with a word or two.

Questions as published (`testdev_balanced_questions.json`), prompt and evaluation as in LLaVA's
`scripts/convert_gqa_for_eval.py` and GQA's own `eval.py`: accuracy, and that of open questions and
of the others. Its further figures (consistency, validity, plausibility, distribution) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats.entries import Entry
from d2export.evaluation.formats.files import read_named
from d2export.evaluation.formats.pictures import in_order, picture_file, picture_folder
from d2export.evaluation.formats.short_answers import short_answer_prompt
from d2export.evaluation.task import Answer, Sample, Task

FILE = "testdev_balanced_questions.json"
PICTURES = ("images", "../images")
MAX_NEW_TOKENS = 10


@dataclass(frozen=True)
class Truth:
    """The right answer, and whether the question is open: offers none (yes, no, this, that)."""

    answer: str
    open: bool


def read_gqa(folder: Path, limit: int | None) -> Task:
    """The questions of the balanced test-dev split.

    Args:
        folder: with `testdev_balanced_questions.json` and `images`.
        limit: questions; None is all.

    Raises:
        UsageError: the file or the pictures are not there; an entry is not as it should be.
    """
    path = folder / FILE
    if not path.exists():
        raise UsageError(
            f"{folder} has no {FILE}", "Put it there: docs/tasks.md says where it comes from."
        )
    pictures = picture_folder(folder, PICTURES)
    return Task(
        "gqa",
        "What is where in the picture and what it is like, in a word or two",
        in_order(path, _samples(pictures, read_named(path, limit))),
        {"gqa": "accuracy"},
        lambda sample, answer: float(plain(answer) == sample.truth.answer),
        further,
    )


def plain(answer: str) -> str:
    """An answer in lower case, without blanks around it and full stops at its end."""
    return answer.strip().rstrip(".").lower()


def further(answers: Sequence[Answer]) -> Mapping[str, float]:
    """The accuracy of open questions, and of the others, where there are any."""
    figures = {}
    for name, is_open in (("binary", False), ("open", True)):
        scores = [answer.score for answer in answers if answer.sample.truth.open == is_open]
        if scores:
            figures[f"accuracy, {name}"] = sum(scores) / len(scores)
    return figures


def _samples(pictures: Path, entries: Iterator[tuple[str, Entry]]) -> Iterator[Sample]:
    for number, entry in entries:
        picture = picture_file(pictures, entry, "imageId", ".jpg")
        yield Sample(
            id=number,
            kind="gqa",
            picture=picture,
            picture_id=picture.name,
            prompt=short_answer_prompt(entry.text("question")),
            truth=Truth(entry.text("answer"), entry.entry("types").text("structural") == "query"),
            max_new_tokens=MAX_NEW_TOKENS,
        )
