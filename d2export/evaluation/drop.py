"""An accuracy budget: how many points of its score pruning may cost a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from d2export.errors import UsageError
from d2export.evaluation.tables import Accuracy, Row, percent, points
from d2export.verify.tables import table


@dataclass(frozen=True)
class Drop:
    """What pruning costs on one kind of question; all are shares of 1.

    Attributes:
        kind: of the questions.
        metric: what their mean score is called.
        n: samples that both answered.
        unpruned, pruned: mean scores.
        drop: the first minus the second: percentage points of the score, not a share of it.
        low, high: the 95 % interval of the drop, paired by sample.
        within: whether the drop, not its interval, keeps to the budget.
    """

    kind: str
    metric: str
    n: int
    unpruned: float
    pruned: float
    drop: float
    low: float
    high: float
    within: bool


@dataclass(frozen=True)
class DropReport:
    """A bundle against its budget, kind by kind."""

    task: str
    configuration: str
    budget: float
    drops: tuple[Drop, ...]
    environment: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether every kind keeps to the budget."""
        return all(drop.within for drop in self.drops)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "passed": self.passed}

    def text(self) -> str:
        """A table, the rule, and what the intervals leave open."""
        header = ["kind", "score", "n", "unpruned", "pruned", "drop", "95 %", ""]
        rows = [
            [
                drop.kind,
                drop.metric,
                f"{drop.n:,}",
                percent(drop.unpruned),
                percent(drop.pruned),
                points(drop.drop),
                f"{points(drop.low)} to {points(drop.high)}",
                "within" if drop.within else "TOO MUCH",
            ]
            for drop in self.drops
        ]
        budget = f"{100 * self.budget:g}"
        lines = [
            f"{self.configuration} on {self.task}: drop of the score in percentage points, at most "
            f"{budget} of each kind",
            table(header, rows),
        ]
        unsure = [d.kind for d in self.drops if d.low <= self.budget < d.high]
        if unsure:
            lines.append(
                f"not settled, the interval of {', '.join(unsure)} reaches to both sides of "
                f"{budget}: more --samples say more"
            )
        return "\n".join(lines)


def parse_drop(text: str) -> float:
    """`0.02` of `2%`.

    Raises:
        UsageError: anything else than percentage points from 0 to 100.
    """
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,6})?)\s*%\s*", text)
    if not found or float(found[1]) > 100:
        raise UsageError(
            f"--max-drop is '{text}', expected percentage points of the score, such as 2%",
            "A score of 90.0 may fall to 88.0 with --max-drop 2%.",
        )
    return float(found[1]) / 100


def drop_report(accuracy: Accuracy, budget: float) -> DropReport:
    """The pruned configuration of an evaluation of one bundle against its unpruned one."""
    pruned = [row for row in accuracy.rows if row.baseline is not None]
    unpruned = {row.kind: row for row in accuracy.rows if row.baseline is None}
    drops = tuple(_drop(row, unpruned[row.kind], budget) for row in pruned)
    return DropReport(accuracy.task, pruned[0].configuration, budget, drops, accuracy.environment)


def _drop(row: Row, base: Row, budget: float) -> Drop:
    assert row.difference is not None
    assert row.difference_low is not None
    assert row.difference_high is not None
    return Drop(
        row.kind,
        row.metric,
        row.n,
        base.score,
        row.score,
        0.0 - row.difference,
        0.0 - row.difference_high,
        0.0 - row.difference_low,
        within=base.score - row.score <= budget + 1e-9,
    )
