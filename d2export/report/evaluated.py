"""An evaluation in a report: beside its bundle, or on a page of its own."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from d2export.bundle.disk import replace_file
from d2export.bundle.strict_json import JsonError, decode, parse
from d2export.errors import UsageError
from d2export.evaluation.plot import accuracy_svg
from d2export.evaluation.tables import ACCURACY, FORMAT, VERSION, Accuracy, Row, plot_of, points
from d2export.evaluation.versus import Versus
from d2export.report.data import Evaluation, ReportData
from d2export.report.figures import percent
from d2export.report.page import render

FILE = "report.html"
NEAREST = 0.1  # share of the tokens at which a score is told first
HEADER = ("Configuration", "Tokens kept", "score, %", "95 %", "against unpruned", "95 %")


def write_evaluation_report(accuracy: Accuracy, folder: Path) -> Path:
    """Write the page of an evaluation into its folder, and return its path.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / FILE
    replace_file(path, render(report_of(accuracy)))
    return path


def report_of(accuracy: Accuracy) -> ReportData:
    """The page of an evaluation."""
    asked = f"{accuracy.answers:,} of {accuracy.expected:,}"
    return ReportData(
        accuracy.task,
        accuracy.about,
        subject="evaluation",
        plan=(("task", accuracy.task), ("answers", asked), *_models(accuracy)),
        evaluations=evaluations_of(accuracy),
        environment=tuple(accuracy.environment.items()),
        versus=accuracy.versus,
    )


def evaluations_of(accuracy: Accuracy) -> tuple[Evaluation, ...]:
    """One for each kind of question."""
    return tuple(_evaluation(accuracy, kind) for kind in accuracy.kinds)


def read_accuracy(folder: Path) -> Accuracy:
    """What `d2export eval` found, from `accuracy.json` in its folder.

    Raises:
        UsageError: there is none, or it makes no sense.
    """
    path = folder / ACCURACY
    try:
        value = parse(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise JsonError("format", "another", f"'{FORMAT}'")
        if value.get("version") != VERSION:
            raise JsonError("version", repr(value.get("version")), str(VERSION))
        return _accuracy(value)
    except (OSError, UnicodeDecodeError, JsonError) as error:
        raise UsageError(
            f"evaluation {path} cannot be read: {error}", "Pass the --output of `d2export eval`."
        ) from None


def _evaluation(accuracy: Accuracy, kind: str) -> Evaluation:
    rows = accuracy.of(kind)
    metric = rows[0].metric or "mean score"
    about = f"{metric}; bars, and the shade around the unpruned score, are 95 % intervals."
    if not accuracy.complete:
        about += f" Not complete: {accuracy.what_is_missing()}."
    told = _told(rows)
    return Evaluation(
        f"{accuracy.task}: {kind}" if kind else accuracy.task,
        accuracy_svg(plot_of(accuracy, kind)),
        about[:1].upper() + about[1:],
        HEADER,
        tuple(_cells(row) for row in rows),
        percent(told.score, 1),
        _about_score(told, rows),
    )


def _told(rows: list[Row]) -> Row:
    """Of what is pruned first, the budget nearest to a tenth of the tokens."""
    pruned = [row for row in rows if row.baseline is not None and row.tokens]
    if not pruned:
        return rows[0]
    own = [row for row in pruned if row.series == pruned[0].series]
    return min(own, key=lambda row: abs(row.kept / row.tokens - NEAREST))


def _about_score(row: Row, rows: list[Row]) -> str:
    words = f"{row.kind or 'all questions'}, {row.configuration}"
    base = next((one for one in rows if one.configuration == row.baseline), None)
    return f"{words}; unpruned {percent(base.score, 1)}" if base else words


def _cells(row: Row) -> tuple[str, ...]:
    difference = interval = ""
    if row.difference is not None:
        difference = points(row.difference)
    if row.difference_low is not None and row.difference_high is not None:
        interval = f"{points(row.difference_low)} to {points(row.difference_high)}"
    return (
        row.configuration,
        f"{row.kept:,.4g} of {row.tokens:,.4g}",
        f"{100 * row.score:.1f}",
        f"{100 * row.low:.1f} to {100 * row.high:.1f}",
        difference,
        interval,
    )


def _models(accuracy: Accuracy) -> list[tuple[str, str]]:
    """What is known of the weights, by group."""
    models = accuracy.settings.get("models")
    found = []
    for group, facts in models.items() if isinstance(models, dict) else ():
        name = facts.get("model") if isinstance(facts, dict) else None
        if isinstance(name, str):
            found.append((group or "model", name))
    return found


def _accuracy(value: dict[str, Any]) -> Accuracy:
    kinds: dict[str, Any] = {
        "task": str,
        "about": str,
        "rows": tuple[object, ...],
        "answers": int,
        "expected": int,
        "shards": int,
        "missing_shards": tuple[int, ...],
        "settings": dict[str, object],
        "environment": dict[str, str],
    }
    found = {name: decode(kind, value.get(name), name) for name, kind in kinds.items()}
    rows = enumerate(found["rows"])
    return Accuracy(
        **{**found, "rows": tuple(_row(row, f"rows[{i}]") for i, row in rows)},
        versus=decode(tuple[Versus, ...], value.get("versus", []), "versus"),
    )


def _row(value: object, at: str) -> Row:
    if not isinstance(value, dict):
        raise JsonError(at, "no object", "an object")
    hints = {**get_type_hints(Row), "further": dict[str, float] | None}
    return Row(
        **{
            field.name: decode(hints[field.name], value.get(field.name), f"{at}.{field.name}")
            for field in fields(Row)
        }
    )
