"""Accuracy against tokens kept, drawn as SVG: from numbers to text, with nothing but Python.

Readable on a phone: 440 units wide with type of 13, so that a screen of 360 pixels shows 11. Text
and axes have the colour of the text around them. Lines differ by colour (Okabe and Ito's, which
people with any colour vision tell apart), by marker and, from the eighth on, by dashes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, TOP, LEFT, RIGHT = 440, 54, 46, 14
HEIGHT, BELOW, LEGEND_ROW = 250, 48, 21  # of the drawing, of the axis below it, of a legend's row
SIZE, SMALL = 13, 12  # of type
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A")
MARKER = 4.2  # half its width
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0)  # where the axis may have a mark
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
DODGE = 3.0  # between points of different lines at one place

Place = Callable[[float], float]


@dataclass(frozen=True)
class Dot:
    """A score with its interval, at a share of visual tokens kept; all from 0 to 1."""

    share: float
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """What one way of pruning scored, at any number of shares."""

    name: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Plot:
    """What is drawn.

    Attributes:
        title: above it.
        label: of the score.
        lines: the first is drawn boldest.
        base: the unpruned score; a horizontal line with its interval.
        chance: the score of guessing.
        n: answers behind each dot.
    """

    title: str
    label: str
    lines: tuple[Line, ...]
    base: Dot | None = None
    chance: float | None = None
    n: int | None = None


def accuracy_svg(plot: Plot) -> str:
    """The plot as an SVG element, with its numbers as a description for those who cannot see it."""
    low, high, step = _range(plot)
    shares = [dot.share for line in plot.lines for dot in line.dots] or [1.0]
    first, last = min(shares), max(shares)
    bottom = TOP + HEIGHT
    margin = 16 + DODGE * len(plot.lines) / 2

    def across(share: float) -> float:
        start, stop = LEFT + margin, WIDTH - RIGHT - margin
        if first == last:
            return (start + stop) / 2
        return start + (stop - start) * math.log(share / first) / math.log(last / first)

    def down(score: float) -> float:
        return bottom - HEIGHT * (score - low) / (high - low)

    rows = math.ceil(len(plot.lines) / 2)
    total = bottom + BELOW + rows * LEGEND_ROW + 8
    n = "" if plot.n is None else f"n = {plot.n:,}; "
    parts = [
        _text(LEFT, 18, plot.title, size=15, weight="600"),
        _text(LEFT, 37, f"{plot.label}, %  ({n}bars: 95 %)", size=SMALL, opacity=0.75),
        *_axes(low, high, step, down, shares, across),
        *_levels(plot, down),
        *(
            piece
            for index, line in enumerate(plot.lines)
            for piece in _line(index, line, len(plot.lines), across, down)
        ),
        *_legend(plot.lines, bottom + BELOW),
    ]
    about = escape(_spoken(plot))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="100%" '
        f'style="max-width:{WIDTH * 3 // 2}px" role="img" fill="currentColor" '
        f'font-family="system-ui, sans-serif" font-size="{SIZE}">'
        f"<title>{escape(plot.title)}</title><desc>{about}</desc>{''.join(parts)}</svg>\n"
    )


def _range(plot: Plot) -> tuple[float, float, float]:
    """Lowest and highest score of the axis, and the step between its marks."""
    dots = [dot for line in plot.lines for dot in line.dots]
    dots += [plot.base] if plot.base else []
    chance = [plot.chance] if plot.chance is not None else []
    low = min([*(dot.low for dot in dots), *chance], default=0.0)
    high = max([*(dot.high for dot in dots), *chance], default=1.0)
    step = next((step for step in STEPS if (high - low) / step <= 6), STEPS[-1])
    low = max(0.0, math.floor(low / step) * step)
    high = min(1.0, math.ceil(high / step - 1e-9) * step)
    return (low, high, step) if high > low else (max(0.0, low - step), min(1.0, low + step), step)


def _axes(
    low: float, high: float, step: float, down: Place, shares: Sequence[float], across: Place
) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, TOP + HEIGHT
    for mark in range(round((high - low) / step) + 1):
        score = low + mark * step
        y = down(score)
        yield _path(f"M{LEFT} {y:.1f}H{right}", opacity=0.15)
        yield _text(LEFT - 6, y + 4.5, f"{100 * score:.0f}", anchor="end")
    for share in marks(shares):
        x = across(share)
        yield _path(f"M{x:.1f} {bottom}v5", opacity=0.6)
        yield _text(x, bottom + 19, f"{100 * share:.3g} %", anchor="middle")
    yield _path(f"M{LEFT} {bottom}H{right}", opacity=0.6)
    yield _text(
        (LEFT + right) / 2, bottom + 37, "visual tokens kept", anchor="middle", size=SMALL,
        opacity=0.75,
    )  # fmt: skip


def marks(shares: Sequence[float]) -> list[float]:
    """Where the axis of shares is marked: at those kept, if they are few and far apart."""
    own = sorted({round(share, 3) for share in shares})
    if len(own) <= 6 and all(b / a > 1.25 for a, b in pairwise(own)):
        return own
    inside = [share for share in SHARES if min(shares) <= share <= max(shares)]
    return inside or [own[0], own[-1]]


def _levels(plot: Plot, down: Place) -> Iterator[str]:
    """The unpruned score and that of chance, as horizontal lines with their names."""
    right = WIDTH - RIGHT
    if plot.base is not None:
        y, top, bottom = down(plot.base.score), down(plot.base.high), down(plot.base.low)
        height = max(bottom - top, 0.5)
        yield (
            f'<rect x="{LEFT}" y="{top:.1f}" width="{right - LEFT}" height="{height:.1f}" '
            'opacity="0.12"/>'
        )
        yield _path(f"M{LEFT} {y:.1f}H{right}", width=1.4)
        above = y - 6 if y - 6 > TOP - 2 else y + 15
        yield _text(LEFT + 4, above, f"unpruned {100 * plot.base.score:.1f}", size=SMALL)
    if plot.chance is not None:
        y = down(plot.chance)
        yield _path(f"M{LEFT} {y:.1f}H{right}", width=1.2, dashes="2 4")
        yield _text(right - 2, y - 5, f"chance {100 * plot.chance:.1f}", anchor="end", size=SMALL)


def _line(index: int, line: Line, count: int, across: Place, down: Place) -> Iterator[str]:
    colour, shift = _colour(index), DODGE * (index - (count - 1) / 2)
    dots = sorted(line.dots, key=lambda dot: dot.share)
    points = [(across(dot.share) + shift, down(dot.score)) for dot in dots]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    width = 2.6 if index == 0 else 1.5
    if len(points) > 1:
        yield _path(path, colour=colour, width=width, dashes=_dashes(index))
    for (x, y), dot in zip(points, dots, strict=True):
        top, bottom = down(dot.high), down(dot.low)
        bar = f"M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 2:.1f} {top:.1f}h4M{x - 2:.1f} {bottom:.1f}h4"
        yield _path(bar, colour=colour, width=1)
        yield _marker(index, x, y, f"{line.name}: {100 * dot.score:.1f} %")


def _legend(lines: Sequence[Line], top: float) -> Iterator[str]:
    """Two columns, row by row."""
    half = (WIDTH - LEFT - RIGHT) / 2
    for index, line in enumerate(lines):
        x, y = LEFT + half * (index % 2), top + LEGEND_ROW * (index // 2) + 12
        yield _path(f"M{x:.1f} {y:.1f}h26", colour=_colour(index), width=2, dashes=_dashes(index))
        yield _marker(index, x + 13, y, "")
        yield _text(x + 33, y + 4.5, _fitting(line.name, 22))


def _marker(index: int, x: float, y: float, about: str) -> str:
    """Circle, square, triangle, diamond, triangle upside down, by turns; hollow in every other."""
    m = MARKER
    shapes = (
        f"M{x - m:.1f} {y:.1f}a{m} {m} 0 1 0 {2 * m} 0a{m} {m} 0 1 0 {-2 * m} 0z",
        f"M{x - m:.1f} {y - m:.1f}h{2 * m}v{2 * m}h{-2 * m}z",
        f"M{x:.1f} {y - m * 1.2:.1f}l{m * 1.2:.1f} {m * 2.1:.1f}h{-m * 2.4:.1f}z",
        f"M{x:.1f} {y - m * 1.3:.1f}l{m * 1.3:.1f} {m * 1.3:.1f}l{-m * 1.3:.1f} {m * 1.3:.1f}"
        f"l{-m * 1.3:.1f} {-m * 1.3:.1f}z",
        f"M{x:.1f} {y + m * 1.2:.1f}l{m * 1.2:.1f} {-m * 2.1:.1f}h{-m * 2.4:.1f}z",
    )
    colour = _colour(index)
    fill = colour if index // len(COLOURS) % 2 == 0 else "#fff"
    title = f"<title>{escape(about)}</title>" if about else ""
    shape = shapes[index % len(shapes)]
    return f'<path d="{shape}" fill="{fill}" stroke="{colour}" stroke-width="1.3">{title}</path>'


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dashes(index: int) -> str:
    return ("", "6 3", "2 3")[min(index // len(COLOURS), 2)]


def _fitting(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _path(
    d: str, *, colour: str = "currentColor", width: float = 1.0, dashes: str = "",
    opacity: float = 1.0,
) -> str:  # fmt: skip
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    faint = f' opacity="{opacity}"' if opacity < 1 else ""
    return (
        f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-linejoin="round"{dashed}{faint}/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = SIZE, weight: str = "",
    opacity: float = 1.0,
) -> str:  # fmt: skip
    heavy = f' font-weight="{weight}"' if weight else ""
    faint = f' opacity="{opacity}"' if opacity < 1 else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{heavy}{faint}>'
        f"{escape(text)}</text>"
    )


def _spoken(plot: Plot) -> str:
    """All of it in words."""
    parts = [f"{plot.label} in percent against the share of visual tokens kept."]
    if plot.base is not None:
        parts.append(f"Unpruned: {100 * plot.base.score:.1f}.")
    if plot.chance is not None:
        parts.append(f"Chance: {100 * plot.chance:.1f}.")
    for line in plot.lines:
        dots = sorted(line.dots, key=lambda dot: -dot.share)
        scores = ", ".join(f"{100 * dot.score:.1f} at {100 * dot.share:.3g} %" for dot in dots)
        parts.append(f"{line.name}: {scores}.")
    return " ".join(parts)
