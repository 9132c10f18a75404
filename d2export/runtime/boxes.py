"""Boxes in an answer, as grounding models write them."""

from __future__ import annotations

import re

# x1, y1, x2, y2 as shares of the picture's width and height, 0 to 1.
Box = tuple[float, float, float, float]

_NUMBER = r"\s*(\d{1,4}(?:\.\d+)?)\s*"
_BOX = re.compile(r"\[" + ",".join([_NUMBER] * 4) + r"\]")
THOUSANDTHS = 1000  # InternVL's unit


def boxes_in(text: str) -> tuple[Box, ...]:
    """All boxes `[x1, y1, x2, y2]` in thousandths, InternVL's format, in the order of the text.

    What is no box is left out: a corner outside of the picture, or a second one that is not right
    of and below the first.
    """
    found = []
    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = (float(edge) / THOUSANDTHS for edge in match.groups())
        if x1 < x2 <= 1 and y1 < y2 <= 1:
            found.append((x1, y1, x2, y2))
    return tuple(found)
