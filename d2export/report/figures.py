"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from d2export.report.markup import Child, Html, element

NOT_MEASURED = "not measured"


def percent(share: float, digits: int = 0) -> str:
    """`12 %`, with a thin space that does not break."""
    return f"{100 * share:.{digits}f}\u202f%"


def significant(value: float, digits: int = 2) -> str:
    """With so many significant digits and no exponent where that can be read: `0.034`, `12`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if places > 6:
        return f"{value:.{digits - 1}e}"
    return f"{round(value, places):,.{max(places, 0)}f}"


def milliseconds(value: float) -> str:
    """Three significant digits, none behind the point from 100 on."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def error(value: float | None) -> str:
    """`1.2e-06`; a deviation that is no finite number says so."""
    return "not finite" if value is None else f"{value:.1e}"


def table(
    header: Sequence[Child],
    rows: Sequence[Sequence[Child]],
    *,
    caption: str,
    row_classes: Sequence[str] = (),
    bars: Sequence[int] = (),
) -> Html:
    """A table whose first column names its row. It scrolls by itself where it is too wide.

    Args:
        row_classes: of each row.
        bars: columns that repeat the number beside them as a bar; narrow screens leave them out.
    """
    classes = list(row_classes) or [""] * len(rows)
    head, *body = (
        [
            element(
                "th" if row is header or not column else "td",
                cell,
                scope="col" if row is header else None if column else "row",
                class_="bars" if column in bars else None,
            )
            for column, cell in enumerate(row)
        ]
        for row in (header, *rows)
    )
    grid = element(
        "table",
        element("caption", caption, class_="unseen-text"),
        element("thead", element("tr", head)),
        element(
            "tbody",
            [
                element("tr", cells, class_=class_ or None)
                for cells, class_ in zip(body, classes, strict=True)
            ],
        ),
    )
    return element("div", grid, class_="wide", tabindex=0, role="group", aria_label=caption)


def bar(share: float, class_: str = "bar") -> Html:
    """A bar as long as `share`, 0 to 1, of its place."""
    length = f"{100 * min(max(share, 0.0), 1.0):.2f}"
    return element(
        "svg",
        element("rect", width=length, height=8, rx=0),
        class_=class_,
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )


def facts(pairs: Sequence[tuple[str, Child]]) -> Html:
    """Names and what they are."""
    return element(
        "dl",
        [element("div", element("dt", name), element("dd", value)) for name, value in pairs],
        class_="facts",
    )


def section(name: str, title: str, *content: Child) -> Html:
    """A part of the page under a heading."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")
