"""What an evaluation asks: a task is questions about pictures, and how an answer is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from d2export.models.images import load_image
from d2export.runtime.boxes import Box as Box


@dataclass(frozen=True)
class Sample:
    """One question about one picture.

    Attributes:
        id: unique in its task, the same in every run.
        kind: which part of the task it belongs to; each part has its own figures.
        picture: a file, or what draws it, RGB.
        picture_id: equal for samples that share a picture.
        prompt: as a user types it.
        truth: what `Task.score` compares an answer with.
        max_new_tokens: longest answer.
        regions: where in the picture the answer is to be seen; empty if that is not known.
        chance: the score that guessing without the picture is expected to get; None if unknown.
    """

    id: str
    kind: str
    picture: Path | Callable[[], Image.Image]
    picture_id: str
    prompt: str
    truth: Any
    max_new_tokens: int
    regions: tuple[Box, ...] = ()
    chance: float | None = None

    def load(self) -> Image.Image:
        """The picture, RGB.

        Raises:
            ImageError: the file is no picture.
        """
        return load_image(self.picture) if isinstance(self.picture, Path) else self.picture()


@dataclass(frozen=True)
class Answer:
    """What was answered to a sample, and its score."""

    sample: Sample
    text: str
    score: float


@dataclass(frozen=True)
class Task:
    """Questions and how to score them.

    Attributes:
        name: on the command line.
        about: in one sentence.
        samples: in a fixed order; neighbours share pictures.
        metric: what the mean score of a kind is called, by kind; "" for any other kind.
        score: 0 to 1 for one answer.
        further: metrics of a kind's answers beyond the mean score (mean IoU, F1), by name.
    """

    name: str
    about: str
    samples: Sequence[Sample]
    metric: Mapping[str, str]
    score: Callable[[Sample, str], float]
    further: Callable[[Sequence[Answer]], Mapping[str, float]] = lambda answers: {}
