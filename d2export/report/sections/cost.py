"""Latency and arithmetic, stage by stage."""

from __future__ import annotations

from d2export.report.data import ReportData, Stage
from d2export.report.figures import NOT_MEASURED, bar, milliseconds, section, significant, table
from d2export.report.markup import Child, Html, element


def cost(data: ReportData) -> Html:
    """The section."""
    title = "What each stage takes"
    if not data.stages:
        return section("cost", title, element("p", f"It was {NOT_MEASURED}.", class_="missing"))
    longest = max((stage.latency.median for stage in data.stages if stage.latency), default=0.0)
    most = max(stage.macs or 0 for stage in data.stages)
    header = ["Stage", "", "median, ms", "p95, ms", "", "GMAC"]
    rows = [_row(stage, longest, most) for stage in data.stages]
    classes = ["part" if stage.part else "" for stage in data.stages]
    grid = table(header, rows, caption=title, row_classes=classes, bars=(1, 4))
    return section(
        "cost",
        title,
        grid,
        element(
            "p",
            data.timed,
            " GMAC are 10⁹ multiply-accumulates, counted from the shapes; of the selection, the "
            "most it can take.",
            class_="small",
        ),
    )


def _row(stage: Stage, longest: float, most: int) -> list[Child]:
    name: list[Child] = [stage.name]
    if stage.note:
        name.append(element("small", f" {stage.note}"))
    latency, macs = stage.latency, stage.macs
    return [
        name,
        bar(latency.median / longest) if latency and longest else None,
        milliseconds(latency.median) if latency else _missing(),
        milliseconds(latency.p95) if latency else _missing(),
        bar(macs / most, "bar second") if macs and most else None,
        _missing() if macs is None else significant(macs / 1e9, 3) if macs else "0",
    ]


def _missing() -> Html:
    return element("span", "—", title=NOT_MEASURED, aria_label=NOT_MEASURED, role="img")
