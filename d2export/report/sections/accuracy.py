"""Accuracy on a task against how much is kept."""

from __future__ import annotations

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
    return section("accuracy", title, [_evaluation(one) for one in data.evaluations])


def _evaluation(evaluation: Evaluation) -> Html:
    rows = table(evaluation.header, evaluation.rows, caption=evaluation.title)
    return element(
        "figure",
        element("h3", evaluation.title),
        Html(evaluation.svg),
        element("figcaption", evaluation.about),
        rows if evaluation.rows else None,
        class_="plot",
    )
