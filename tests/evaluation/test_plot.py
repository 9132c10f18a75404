"""A plot is well-formed, holds its numbers in place, and survives what is unusual."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from d2export.evaluation.plot import HEIGHT, TOP, WIDTH, Dot, Line, Plot, accuracy_svg, marks

SVG = {"svg": "http://www.w3.org/2000/svg"}


def line(name: str, *scores: float) -> Line:
    shares = (0.05, 0.1, 0.25, 0.5)
    return Line(
        name, tuple(Dot(x, y, y - 0.02, y + 0.02) for x, y in zip(shares, scores, strict=False))
    )


def markers(root: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    """Where the dots of a line are: its first has circles."""
    found = []
    for path in root.iterfind("svg:path", SVG):
        if (path.findtext("svg:title", "", SVG)).startswith(f"{name}:"):
            match = re.match(r"M([\d.]+) ([\d.]+)", path.attrib["d"])
            assert match
            found.append((float(match[1]), float(match[2])))
    return found


def test_more_is_higher_and_further_right() -> None:
    plot = Plot("t", "score", (line("d2", 0.4, 0.5, 0.7, 0.9),), Dot(1, 0.95, 0.93, 0.97), 0.1, 9)
    root = ElementTree.fromstring(accuracy_svg(plot))
    places = markers(root, "d2")
    assert len(places) == 4
    assert places == sorted(places)
    heights = [y for _, y in places]
    assert heights == sorted(heights, reverse=True)
    assert all(0 < x < WIDTH and TOP <= y <= TOP + HEIGHT for x, y in places)
    # 0 to 100 %: a score of 0.5 lies half-way.
    assert heights[1] == pytest.approx(TOP + HEIGHT / 2, abs=0.1)
    words = [text.text for text in root.iterfind("svg:text", SVG)]
    assert {"unpruned 95.0", "chance 10.0", "score, %  (n = 9; bars: 95 %)"} <= set(words)
    assert {"5 %", "10 %", "25 %", "50 %"} <= set(words)


def test_an_axis_for_small_differences() -> None:
    root = ElementTree.fromstring(accuracy_svg(Plot("t", "s", (line("d2", 0.91, 0.93),))))
    words = [text.text for text in root.iterfind("svg:text", SVG)]
    assert "90" in words
    assert "0" not in words


def test_every_line_can_be_told_from_every_other() -> None:
    lines = tuple(line(f"way {i}", 0.1 + i / 30, 0.2 + i / 30) for i in range(14))
    root = ElementTree.fromstring(accuracy_svg(Plot("t", "s", lines)))
    looks = set()
    for item in lines:
        path = next(
            path
            for path in root.iterfind("svg:path", SVG)
            if path.findtext("svg:title", "", SVG).startswith(f"{item.name}:")
        )
        shape = re.sub(r"^M[\d.]+ [\d.]+", "", path.attrib["d"])
        looks.add((shape, path.attrib["fill"], path.attrib["stroke"]))
    assert len(looks) == len(lines)
    assert sum(fill == "#fff" for _, fill, _ in looks) == 7  # hollow from the eighth on


@pytest.mark.parametrize(
    "plot",
    [
        Plot("nothing", "s", ()),
        Plot("no dot", "s", (Line("d2", ()),)),
        Plot("one dot", "s", (Line("sms", (Dot(0.2, 1.0, 1.0, 1.0),)),)),
        Plot("all zero", "s", (line("d2", 0.02, 0.02),), Dot(1, 0.0, 0.0, 0.0), 0.0),
        Plot('<&>"', "<b>", (line("<script>", 0.5),), None, 0.5),
    ],
    ids=lambda plot: plot.title,
)
def test_unusual_plots_are_svg(plot: Plot) -> None:
    svg = accuracy_svg(plot)
    assert ElementTree.fromstring(svg).findtext("svg:title", "", SVG) == plot.title
    assert "nan" not in svg
    assert "inf" not in svg


def test_marks_are_the_shares_kept_unless_they_crowd() -> None:
    assert marks([0.05, 0.1, 0.5]) == [0.05, 0.1, 0.5]
    assert marks([0.1, 0.11, 0.12, 0.3, 0.31]) == [0.1, 0.15, 0.25]
