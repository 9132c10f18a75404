"""Whether two ways to run a model keep the same visual tokens: PyTorch, say, and a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from d2export.evaluation.configuration import Answered


@dataclass(frozen=True)
class Agreement:
    """Of the answers of one configuration.

    Attributes:
        answers: that both gave.
        kept: visual tokens that stayed in either, the larger number of the two, over all answers.
        common: those of them that stayed in both.
        same_texts: how many answers are equal.
    """

    answers: int
    kept: int
    common: int
    same_texts: int

    @property
    def share(self) -> float:
        """Of the kept tokens that are the same ones."""
        return self.common / self.kept if self.kept else 1.0


def agreements(ours: Iterable[Answered], theirs: Iterable[Answered]) -> dict[str, Agreement]:
    """By the name of each configuration that both were asked in."""
    known = {(found.configuration.name, found.sample.id): found for found in theirs}
    counts: dict[str, list[int]] = {}
    for found in ours:
        other = known.get((found.configuration.name, found.sample.id))
        if other is None:
            continue
        common = len(np.intersect1d(found.kept, other.kept))
        larger = max(len(found.kept), len(other.kept))
        row = counts.setdefault(found.configuration.name, [0, 0, 0, 0])
        for at, more in enumerate((1, larger, common, int(found.text == other.text))):
            row[at] += more
    return {name: Agreement(*row) for name, row in counts.items()}
