"""A model in INT8 beside the same model in another precision."""

from __future__ import annotations

from d2export.report.data import ReportData
from d2export.report.figures import section, table
from d2export.report.markup import Html, element


def versus(data: ReportData) -> Html:
    """The sections; nothing where no two bundles are of one model."""
    return element("div", [_one(index, data) for index in range(len(data.versus))])


def _one(index: int, data: ReportData) -> Html:
    one = data.versus[index]
    sentences = element("ul", [element("li", sentence) for sentence in one.verdict()])
    grid = table(one.header, list(one.cells()), caption=f"{one.title}, scores in %")
    return section(f"versus-{index}", one.title, sentences, grid)
