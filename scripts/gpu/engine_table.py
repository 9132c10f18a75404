"""What engine.py found, as rows, goals and a Markdown table: part of engine.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

NOT_RUN = "not run: "
# On an H200, in FP16 (docs/gpu.md): what, and whether it is to be at least or at most.
VISION_GOAL = ("vision engine beside PyTorch eager FP16", 2.0, "x")
PREFILL_GOAL = ("prefill, a tenth kept, beside unpruned in the same engine", 3.5, "x")
SELECTION_GOAL = ("selection in that prefill", 0.01, "share")


class NotRun(Exception):
    """Why something could not be run here. No failure: the rest goes on."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured or checked.
        precision: of the engine.
        ms: median GPU time, by events around one call; None if there is none.
        graph_ms: the same replayed as a CUDA graph.
        passed: of a check; None if the row is none.
        note: figures of a check, or why it was not run.
    """

    what: str
    precision: str
    ms: float | None = None
    graph_ms: float | None = None
    passed: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """What was aimed at; `value` is None where it was not measured."""

    what: str
    wanted: float
    unit: str  # "x": at least so many times faster; "share": at most so much of it
    value: float | None = None

    @property
    def verdict(self) -> str:
        """`reached`, `missed` or `not run`."""
        if self.value is None:
            return "not run"
        reached = self.value >= self.wanted if self.unit == "x" else self.value <= self.wanted
        return "reached" if reached else "missed"

    def text(self) -> str:
        """A line of its own."""
        bound = "at least" if self.unit == "x" else "at most"

        def shown(value: float) -> str:
            return f"{value:.2f}x" if self.unit == "x" else f"{value:.2%}"

        found = "" if self.value is None else f", measured {shown(self.value)}"
        return f"{self.what}: {bound} {shown(self.wanted)}{found}: {self.verdict}"


@dataclass
class Findings:
    """All of a run."""

    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    @property
    def failed(self) -> list[Row]:
        """Checks that did not pass."""
        return [row for row in self.rows if row.passed is False]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        goals = [{**asdict(goal), "verdict": goal.verdict} for goal in self.goals]
        return {
            "machine": self.machine,
            "rows": [asdict(row) for row in self.rows],
            "goals": goals,
            "passed": not self.failed,
        }

    def text(self) -> str:
        """The table and the goals, in Markdown."""
        facts = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        goals = "\n".join(f"- {goal.text()}" for goal in self.goals)
        return f"{facts}\n\n{table(self.rows)}\n\nGoals, on an H200:\n\n{goals}"


def table(rows: Iterable[Row]) -> str:
    """Rows in Markdown."""
    lines = ["| what | precision | ms | ms, CUDA graph | result |", "|---|---|---|---|---|"]
    for row in rows:
        verdict = {None: "", True: "PASSED", False: "FAILED"}[row.passed]
        result = " ".join(part for part in (verdict, row.note) if part)
        cells = (row.what, row.precision, number(row.ms), number(row.graph_ms), result)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(milliseconds: float | None) -> str:
    """Three digits that count."""
    return "" if milliseconds is None else f"{milliseconds:.3g}"


def whole(times: dict[int, float], layers: int) -> float:
    """What all layers take, by the line through the times of the smallest and largest slice.

    Args:
        times: milliseconds by layers of a slice, of at least two slices.
    """
    small, large = min(times), max(times)
    each = (times[large] - times[small]) / (large - small)
    return times[small] + each * (layers - small)


def ratio(slow: float | None, fast: float | None) -> float | None:
    """How many times faster; None if one of them was not measured."""
    return None if slow is None or fast is None else slow / fast
