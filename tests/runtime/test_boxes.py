"""Boxes are read from an answer, and nothing else is."""

from __future__ import annotations

import pytest

from d2export.runtime.boxes import boxes_in


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("<box>[[8, 23, 414, 992]]</box>", [(0.008, 0.023, 0.414, 0.992)]),
        ("the ring[[0,0,1000,1000]]", [(0, 0, 1, 1)]),
        ("[[0, 0, 9, 9], [50.5, 60, 70, 80]]", [(0, 0, 0.009, 0.009), (0.0505, 0.06, 0.07, 0.08)]),
        ("[[414, 23, 8, 992]] [[8, 992, 414, 23]] [[8, 8, 8, 9]]", []),
        ("[[8, 23, 414, 1001]] [1, 2, 3] [1, 2, 3, 4, 5] [a, b, c, d]", []),
        ("", []),
    ],
)  # fmt: skip
def test_boxes_in(text: str, boxes: list[tuple[float, ...]]) -> None:
    found = boxes_in(text)
    assert len(found) == len(boxes)
    for one, other in zip(found, boxes, strict=True):
        assert one == pytest.approx(other)
