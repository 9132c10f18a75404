"""Accuracy on a task against how much is kept."""

from __future__ import annotations

import re

from d2export.report.data import Evaluation, ReportData
from d2export.report.figures import section, table
from d2export.report.markup import Html, element

NOT_EVALUATED = (
    "Not evaluated on a task yet. That the graph answers what PyTorch answers, below, does not say "
    "how good the answers are with fewer tokens."
)


def accuracy(data: ReportData) -> Html:
    """The section."""
    title = "What it does to accuracy"
    if not data.evaluations:
        return section("accuracy", title, element("p", NOT_EVALUATED, class_="missing"))
    plots = [_plot(one) for one in data.evaluations]
    return section(
        "accuracy",
        title,
        element("div", plots, class_=f"gallery of-{min(len(plots), 3)}"),
        [_numbers(one) for one in data.evaluations if one.rows],
    )


def _plot(evaluation: Evaluation) -> Html:
    caption = element("figcaption", evaluation.about)
    return element("figure", _without_style(evaluation.svg), caption, class_="plot")


def _numbers(evaluation: Evaluation) -> Html:
    grid = table(evaluation.header, evaluation.rows, caption=evaluation.title)
    return element("div", element("h3", evaluation.title), grid)


def _without_style(svg: str) -> Html:
    """The page's own style says how wide a plot is; its policy refuses style attributes."""
    return Html(re.sub(r'\A(<svg[^>]*?) style="[^"]*"', r"\1", svg.strip()))
