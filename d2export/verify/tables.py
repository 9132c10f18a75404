"""Reports as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from d2export.verify.accuracy import AccuracyReport
from d2export.verify.latency import StageLatency

if TYPE_CHECKING:
    from d2export.verify.layers import LayerReport
    from d2export.verify.near_ties import NearTies


def plural(count: int, noun: str) -> str:
    """`1 tile`, `7 tiles`."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def accuracy_table(report: AccuracyReport) -> str:
    """A line per case, then what was asked for."""
    rows = [
        [
            case.name,
            str(case.tiles),
            str(case.tokens),
            str(case.kept),
            f"{case.common}/{case.kept}",
            f"{case.embeddings_error:.1e}",
            f"{case.cosine:.6f}",
            f"{case.seconds:.2f} s",
        ]
        for case in report.cases
    ]
    header = ["image", "tiles", "tokens", "kept", "equal", "rel. error", "cosine", "time"]
    tolerances = report.tolerances
    lines = [
        table(header, rows),
        f"{report.backend} {report.precision} (selection: {report.selection_implementation}) "
        "against PyTorch fp32: "
        f"{report.agreement:.2%} of the indices equal (asked: {tolerances.indices:.0%}), "
        f"largest rel. error {max(case.embeddings_error for case in report.cases):.1e} "
        f"(asked: {tolerances.embeddings:.0e})",
    ]
    for case in report.cases:
        if not case.well_formed:
            lines.append(
                f"{case.name}: the graph's answer is malformed: another number of tokens, indices "
                "that are not ascending or not the picture's, or embeddings that are not finite"
            )
        if case.near_ties is not None:
            lines.append(near_tie_line(case.name, case.near_ties))
    return "\n".join(lines)


def near_tie_line(name: str, ties: NearTies) -> str:
    """Why the tokens kept of a picture differ."""
    verdict = "near-ties" if ties.explained else "NOT explained by near-ties"
    if not ties.threshold:
        verdict = "rounding" if ties.explained else "NOT explained by rounding"
        return (
            f"{name}: {ties.tokens} tokens differ, {verdict}: the rule on the graph's own values "
            f"{'keeps' if ties.replayed else 'does NOT keep'} the same; scores moved by "
            f"{ties.score_gap:.1e}, similarities by {ties.similarity_gap:.1e} "
            f"(limit {ties.limit:.0e})"
        )
    return (
        f"{name}: {ties.tokens} tokens differ, {verdict}: scores within "
        f"{ties.score_gap:.1e}, similarities within {ties.similarity_gap:.1e} of theta "
        f"(limit {ties.limit:.0e})"
    )


def latency_table(stages: Sequence[StageLatency]) -> str:
    """Two lines per input size: the graph, and selection by itself."""
    columns = ("min", "median", "mean", "p90", "p95", "p99")
    rows = [
        [
            name,
            *map(str, (stage.tiles, stage.tokens, stage.kept)),
            *(f"{getattr(latency, column):.2f}" for column in columns),
            f"{latency.median / stage.vision.median:.1%}",
            runs_as,
        ]
        for stage in stages
        for name, latency, runs_as in (
            ("vision", stage.vision, ""),
            ("selection", stage.selection, stage.selection_implementation),
        )
    ]
    return table(["milliseconds", "tiles", "tokens", "kept", *columns, "share", "runs as"], rows)


def layer_table(report: LayerReport) -> str:
    """A line per layer, then the first that drifts."""
    rows = [[layer.name, f"{layer.error:.1e}", f"{layer.cosine:.8f}"] for layer in report.layers]
    drift = report.first_drift
    verdict = (
        f"no layer exceeds an error of {report.limit:.0e}"
        if drift is None
        else f"the first layer to exceed an error of {report.limit:.0e} is {drift}"
    )
    return f"{table(['layer', 'error', 'cosine'], rows)}\n{verdict}"
