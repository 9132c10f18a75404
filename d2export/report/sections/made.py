"""How the bundle prunes, where figures were measured, and what it was made with."""

from __future__ import annotations

from d2export.report.data import Facts, ReportData
from d2export.report.figures import facts, section
from d2export.report.markup import Child, Html, element

NOT_NOTED = "Not noted: nothing was measured yet, or an older d2export did."


def made(data: ReportData) -> Html:
    """The section."""
    return section(
        "made",
        "How it was made",
        element(
            "div",
            _group("Asked" if data.subject == "evaluation" else "Plan", data.plan),
            _group("Measured on", data.environment),
            _group("Exported with", data.versions) if data.subject == "bundle" else None,
            class_="columns",
        ),
    )


def _group(title: str, pairs: Facts) -> Html:
    shown: Child = element("p", NOT_NOTED, class_="missing")
    if pairs:
        shown = facts(
            [
                (name, element("code", value) if name == "command" else value)
                for name, value in pairs
            ]
        )
    return element("div", element("h3", title), shown)
