"""Tables in Markdown: scores of several models, and what one selector gains over the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from compared.configurations import AT, KEEPS
from d2export.evaluation.results import Record
from d2export.evaluation.statistics import paired
from d2export.evaluation.tables import Row
from d2export.evaluation.task import Task

ASKED = ("d2", "d2+")  # who is compared with all others at that keep value

Scores = Mapping[str, Mapping[str, float]]  # by configuration, by sample


def scores_of(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Of all answers at `AT`, and of those whose number of tokens the picture decides."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for record in records:
        if record.configuration.endswith((f" {AT}", "sms", "sms, gaps")):
            found[record.configuration][record.id] = record.score
    return found


def scores_table(found: Mapping[str, Sequence[Row]], kind: str) -> str:
    """Scores in %: of one model with its interval, of several the mean and from least to most."""
    models = [[row for row in rows if row.kind == kind] for rows in found.values()]
    first = models[0][0]
    scores = [{row.configuration: row for row in rows} for rows in models]
    lines = [
        f"### {kind}: {first.metric}, n = {first.n:,} per model, chance {_percent(first.chance)}",
        "",
        f"| kept | {' | '.join(KEEPS)} |",
        f"|---{'|---' * len(KEEPS)}|",
    ]
    for series in dict.fromkeys(row.series for row in models[0]):
        names = [f"{series} {keep}" for keep in KEEPS]
        cells = [_cell([rows[n] for rows in scores]) if n in scores[0] else "" for n in names]
        if not any(cells):  # one figure for all
            kept = sum(rows[series].kept for rows in scores) / len(scores)
            cells = [f"{_cell([rows[series] for rows in scores])} at {kept:.0f} tokens"]
            cells += [""] * (len(KEEPS) - 1)
        lines.append(f"| {series} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains_table(found: Mapping[str, Scores], task: Task, kind: str) -> str:
    """What each of `ASKED` scores more than the others at `AT`, in points, asked the same."""
    pictures = {sample.id: sample.picture_id for sample in task.samples if sample.kind == kind}
    names = list(next(iter(found.values())))
    lines = [
        f"### {kind}, {AT} kept: points gained over",
        "",
        "| | " + " | ".join(f"{one}, {model}" for one in ASKED for model in found) + " |",
        f"|---{'|---' * len(ASKED) * len(found)}|",
    ]
    for name in names:
        cells = [
            _gain(scores[f"{one} {AT}"], scores[name], pictures) if name != f"{one} {AT}" else ""
            for one in ASKED
            for scores in found.values()
        ]
        lines.append(f"| {name.removesuffix(f' {AT}')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(
    ours: Mapping[str, float], theirs: Mapping[str, float], pictures: Mapping[str, str]
) -> str:
    both = [sample for sample in pictures if sample in ours and sample in theirs]
    if not both:
        return "not asked yet"
    gain = paired(
        [ours[sample] for sample in both],
        [theirs[sample] for sample in both],
        [pictures[sample] for sample in both],
    )
    low, high = (100 * bound for bound in gain.interval)
    return f"{100 * gain.difference:+.1f} ({low:+.1f} to {high:+.1f})"


def _cell(rows: Sequence[Row]) -> str:
    values = [row.score for row in rows]
    mean = sum(values) / len(values)
    half = max(row.high - row.low for row in rows) / 2
    spread = f" ({_percent(min(values))} to {_percent(max(values))})" if len(values) > 1 else ""
    return f"{_percent(mean)}{spread or f' ± {100 * half:.1f}'}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f}"
