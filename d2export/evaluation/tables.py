"""What an evaluation found: scores with their intervals, as JSON, as CSV and as tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from d2export.bundle.disk import replace_file
from d2export.evaluation.configuration import Configuration, baseline_of
from d2export.evaluation.plot import Dot, Line, Plot, accuracy_svg
from d2export.evaluation.results import Record, ResultsFolder
from d2export.evaluation.statistics import mean_interval, paired
from d2export.evaluation.task import Answer, Sample, Task
from d2export.evaluation.versus import Footprint, Versus, compare
from d2export.verify.tables import table

FORMAT, VERSION = "d2export-accuracy", 1
ACCURACY, CSV = "accuracy.json", "accuracy.csv"


@dataclass(frozen=True)
class Row:
    """One configuration on one kind of question.

    Attributes:
        configuration: its name; `series` without its keep value, `group` what it is compared in.
        kind: of the questions; `metric` is what their mean score is called.
        n: answers.
        score: their mean, 0 to 1; `low` to `high` is its 95 % interval.
        kept: mean number of visual tokens that stayed, of `tokens`.
        chance: the score of guessing without the picture, where that is known.
        baseline: the configuration it is compared with, on the samples both answered.
        difference: the score minus the baseline's; `difference_low` to `difference_high` is the
            paired 95 % interval.
        better, worse: samples that scored higher, and lower, than with the baseline.
        p_value: of McNemar's exact test, where scores are 0 or 1.
        further: other metrics of the same answers.
    """

    configuration: str
    series: str
    group: str
    kind: str
    metric: str
    n: int
    score: float
    low: float
    high: float
    kept: float
    tokens: float
    chance: float | None
    baseline: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    better: int | None = None
    worse: int | None = None
    p_value: float | None = None
    further: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Accuracy:
    """All of an evaluation.

    Attributes:
        task: its name; `about` in one sentence.
        rows: kind by kind, configurations in their order.
        answers: how many there are, of `expected`.
        shards: how many there are to be; `missing_shards` have no answer yet.
        settings: as in `results.settings_of`.
        environment: where the figures were computed.
        versus: bundles in INT8 beside those in another precision.
    """

    task: str
    about: str
    rows: tuple[Row, ...]
    answers: int
    expected: int
    shards: int
    missing_shards: tuple[int, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    versus: tuple[Versus, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every configuration has answered every question."""
        return self.answers == self.expected

    @property
    def kinds(self) -> list[str]:
        """Those that have answers, in the order of the task."""
        return list(dict.fromkeys(row.kind for row in self.rows))

    def of(self, kind: str) -> list[Row]:
        """The rows of a kind."""
        return [row for row in self.rows if row.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """As plain values; see docs/evaluation.md."""
        return {
            "format": FORMAT,
            "version": VERSION,
            **{key: value for key, value in asdict(self).items() if key != "rows"},
            "complete": self.complete,
            "rows": [asdict(row) for row in self.rows],
        }

    def to_csv(self) -> str:
        """A line per row; further metrics in columns of their own."""
        names = [field.name for field in fields(Row) if field.name != "further"]
        further = sorted({name for row in self.rows for name in row.further or ()})
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*names, *further])
        for row in self.rows:
            values = [getattr(row, name) for name in names]
            values += [(row.further or {}).get(name) for name in further]
            writer.writerow(["" if value is None else value for value in values])
        return text.getvalue()

    def text(self) -> str:
        """A table per kind, then what is missing."""
        parts = [_kind_table(kind, self.of(kind)) for kind in self.kinds]
        parts += [versus.text() for versus in self.versus]
        if not self.complete:
            parts.append(self.what_is_missing())
        return "\n\n".join(parts)

    def what_is_missing(self) -> str:
        """In a sentence."""
        missing = ", ".join(f"{i}/{self.shards}" for i in self.missing_shards)
        text = f"{self.answers:,} of {self.expected:,} answers are there"
        return f"{text}; shards without any: {missing}" if missing else text

    def plots(self) -> dict[str, str]:
        """SVG by kind: score against the share of visual tokens kept."""
        return {kind: accuracy_svg(plot_of(self, kind)) for kind in self.kinds}

    def write(self, folder: Path) -> list[Path]:
        """Write accuracy.json, accuracy.csv and a plot of each kind.

        Raises:
            OutputError: a file cannot be written.
        """
        files = {ACCURACY: json.dumps(self.to_json(), indent=1) + "\n", CSV: self.to_csv()}
        files |= {f"accuracy-{_as_name(kind)}.svg": svg for kind, svg in self.plots().items()}
        for name, text in files.items():
            replace_file(folder / name, text)
        return [folder / name for name in files]


def summarize(
    task: Task,
    folder: ResultsFolder,
    configurations: Sequence[Configuration],
    environment: Mapping[str, str],
    rivals: Sequence[tuple[Footprint, Footprint]] = (),
) -> Accuracy:
    """The figures of all answers that are in a folder, of whichever shard.

    Args:
        rivals: groups of configurations to compare, the narrower precision first.
    """
    answers: dict[str, dict[str, Record]] = {one.name: {} for one in configurations}
    for record in folder.records():
        answers[record.configuration][record.id] = record
    shards, present = folder.settings["shards"], set(folder.shards())
    kinds: dict[str, list[Sample]] = {}
    for sample in task.samples:
        kinds.setdefault(sample.kind, []).append(sample)
    rows = [
        row
        for kind, samples in kinds.items()
        for one in configurations
        if (row := _row(task, kind, samples, one, configurations, answers)) is not None
    ]
    return Accuracy(
        task.name,
        task.about,
        tuple(rows),
        sum(map(len, answers.values())),
        len(task.samples) * len(configurations),
        shards,
        tuple(i for i in range(1, shards + 1) if i not in present),
        folder.settings,
        environment,
        tuple(compare(*pair, kinds, configurations, answers) for pair in rivals),
    )


def plot_of(accuracy: Accuracy, kind: str) -> Plot:
    """What a plot shows: a line per series, unpruned scores as a band."""
    rows = accuracy.of(kind)
    lines: dict[str, list[Dot]] = {}
    for row in rows:
        if row.baseline is not None:
            share = row.kept / row.tokens if row.tokens else 0.0
            lines.setdefault(row.series, []).append(Dot(share, row.score, row.low, row.high))
    bases = [row for row in rows if row.baseline is None]
    base = bases[0] if len(bases) == 1 else None
    metric = rows[0].metric
    return Plot(
        title=f"{accuracy.task}: {kind}" if kind else accuracy.task,
        label=metric or "mean score",
        lines=tuple(Line(name, tuple(dots)) for name, dots in lines.items()),
        base=Dot(1.0, base.score, base.low, base.high) if base else None,
        chance=rows[0].chance,
        n=min(row.n for row in rows),
    )


def _row(
    task: Task,
    kind: str,
    samples: Sequence[Sample],
    configuration: Configuration,
    among: Sequence[Configuration],
    answers: Mapping[str, Mapping[str, Record]],
) -> Row | None:
    """None if nothing was answered yet."""
    own = answers[configuration.name]
    answered = [sample for sample in samples if sample.id in own]
    if not answered:
        return None
    records = [own[sample.id] for sample in answered]
    scores = [record.score for record in records]
    interval = mean_interval(scores, [sample.picture_id for sample in answered])
    known = [sample.chance for sample in answered if sample.chance is not None]
    row = Row(
        configuration=configuration.name,
        series=configuration.series,
        group=configuration.group,
        kind=kind,
        metric=task.metric.get(kind, task.metric.get("", "")),
        n=len(records),
        score=sum(scores) / len(scores),
        low=interval.low,
        high=interval.high,
        kept=sum(record.kept for record in records) / len(records),
        tokens=sum(record.tokens for record in records) / len(records),
        chance=sum(known) / len(known) if len(known) == len(answered) else None,
        further=_further(task, answered, records),
    )
    base = baseline_of(configuration, among)
    return row if base is None else _against(row, answered, own, base.name, answers[base.name])


def _further(task: Task, samples: Sequence[Sample], records: Sequence[Record]) -> dict[str, float]:
    pairs = zip(samples, records, strict=True)
    return dict(task.further([Answer(one, record.text, record.score) for one, record in pairs]))


def _against(
    row: Row,
    answered: Sequence[Sample],
    own: Mapping[str, Record],
    name: str,
    base: Mapping[str, Record],
) -> Row:
    """With the difference from a baseline, on the samples that both answered."""
    both = [sample for sample in answered if sample.id in base]
    if not both:
        return Row(**{**_values(row), "baseline": name})
    found = paired(
        [own[sample.id].score for sample in both],
        [base[sample.id].score for sample in both],
        [sample.picture_id for sample in both],
    )
    return Row(
        **{
            **_values(row),
            "baseline": name,
            "difference": found.difference,
            "difference_low": found.interval.low,
            "difference_high": found.interval.high,
            "better": found.better,
            "worse": found.worse,
            "p_value": found.p_value,
        }
    )


def _values(row: Row) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _kind_table(kind: str, rows: Sequence[Row]) -> str:
    chance = rows[0].chance
    counts = {row.n for row in rows}
    n = f"{min(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}"
    title = [f"{kind}: {rows[0].metric or 'mean score'} in %", f"n = {n}"]
    title += [] if chance is None else [f"chance {percent(chance)}"]
    header = ["configuration", "kept", "score", "95 %", "against unpruned", "95 %"]
    further = sorted({name for row in rows for name in row.further or ()})
    lines = [
        [
            row.configuration,
            f"{row.kept:.4g} of {row.tokens:.4g}",
            percent(row.score),
            f"{percent(row.low)} to {percent(row.high)}",
            *_difference(row),
            *(_number((row.further or {}).get(name)) for name in further),
        ]
        for row in rows
    ]
    return f"{', '.join(title)}\n{table([*header, *further], lines)}"


def _difference(row: Row) -> list[str]:
    if row.difference is None or row.difference_low is None or row.difference_high is None:
        return ["", ""]
    interval = f"{points(row.difference_low)} to {points(row.difference_high)}"
    return [points(row.difference), interval]


def percent(share: float) -> str:
    """`94.6`, of 0.946."""
    return f"{100 * share:.1f}"


def points(difference: float) -> str:
    """`-3.2`, of -0.032: percentage points with their sign."""
    return f"{100 * difference:+.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _as_name(kind: str) -> str:
    """A kind as a part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in kind) or "all"
