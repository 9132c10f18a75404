"""Metrics: boxes against InternVL's own expression, the rest against definitions and by hand."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2export.evaluation.metrics import (
    iou,
    parse_box,
    parse_number,
    same_number,
    same_text,
    says_yes,
    text_similarity,
)

INTERNVL = re.compile(r"\[*\[(.*?),(.*?),(.*?),(.*?)\]\]*")  # evaluate_grounding.py


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[[100, 200, 300, 400]]", (0.1, 0.2, 0.3, 0.4)),
        ("<ref>the ring</ref><box>[[0, 0, 500, 1000]]</box>", (0.0, 0.0, 0.5, 1.0)),
        ("[10,20,30,40]", (0.01, 0.02, 0.03, 0.04)),
        ("It is at [[1, 2, 3, 4]] or [[5, 6, 7, 8]].", (0.001, 0.002, 0.003, 0.004)),
        ("[[0.1, 0.2, 0.3, 0.4]]", (0.1, 0.2, 0.3, 0.4)),  # shares: they add up to less than 4
        ("[[0, 0, 1, 2.9]]", (0.0, 0.0, 1.0, 2.9)),
        ("[[0, 0, 1, 3]]", (0.0, 0.0, 0.001, 0.003)),
        ("[[900, 100, 300, 1200]]", (0.9, 0.1, 0.3, 1.2)),  # neither sorted nor cut
        ("[[ 1e2, 2e2,\t300 , 400]]", (0.1, 0.2, 0.3, 0.4)),
        ("", None),
        ("the ring on the left", None),
        ("[[100, 200, 300]]", None),
        ("[[100, 200, 300, 400, 500]]", None),
        ("[[100, 200, 300, 400", None),
        ("[[100, 200,\n300, 400]]", None),
        ("[[left, top, right, bottom]]", None),
        ("the [big] ring [[1, 2, 3, 4]]", None),  # other brackets before it
        ("[[nan, 0, 1, 1]]", None),
        ("[[0, 0, inf, 1]]", None),
    ],
)
def test_a_box_in_an_answer(text, box):
    found = parse_box(text)
    assert found == (None if box is None else pytest.approx(box))


@given(st.text("[],.- \n0123456789ae", max_size=40))
def test_a_box_is_found_where_internvl_finds_one(text):
    groups = INTERNVL.findall(text)
    try:
        expected = tuple(float(group) for group in groups[0])
    except (IndexError, ValueError):
        expected = None
    else:
        expected = tuple(value / 1000 if sum(expected) >= 4 else value for value in expected)
    assert parse_box(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 1, 1), (0, 0.5, 1, 1.5), 1 / 3),
        ((0, 0, 4, 1), (1, 0, 3, 1), 1 / 2),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0),  # they touch
        ((0, 0, 1, 1), (2, 2, 3, 3), 0),
        ((1, 1, 0, 0), (0, 0, 1, 1), 0),  # corners exchanged
        ((1, 0, 0, 1), (0, 0, 1, 1), 0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ],
)
def test_intersection_over_union(a, b, expected):
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == iou(a, b)


corners = st.tuples(*[st.integers(0, 8)] * 4)


@given(corners, corners)
def test_iou_counts_cells(a, b):
    """On whole numbers it is a count of unit cells."""
    cells = [{(x, y) for x in range(x1, x2) for y in range(y1, y2)} for x1, y1, x2, y2 in (a, b)]
    union = cells[0] | cells[1]
    assert iou(a, b) == pytest.approx(len(cells[0] & cells[1]) / len(union) if union else 0)


def test_texts_are_equal_but_for_case_and_outer_blanks():
    assert same_text(" Exit\n", "EXIT")
    assert not same_text("EXIT.", "EXIT")
    assert not same_text("EX IT", "EXIT")


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("kitten", "sitting", 1 - 3 / 7),
        ("Exit", "EXIT ", 1),
        ("", "EXIT", 0),
        ("EXIT", "", 0),
        ("", "", 1),
        ("ab", "ba", 0),
        ("XEXIT", "EXIT", 4 / 5),
    ],
)
def test_similarity_of_texts(answer, truth, expected):
    assert text_similarity(answer, truth) == pytest.approx(expected)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_similarity_is_one_minus_the_edit_distance(a, b):
    @lru_cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        change = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    longest = max(len(a), len(b), 1)
    assert text_similarity(a, b) == pytest.approx(1 - distance(len(a), len(b)) / longest)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3),
        ("There are 3.", 3),
        ("Three rings", 3),
        ("twenty", 20),
        ("None", 0),
        ("1,200 and 4", 1200),
        ("4.0", 4),
        ("3.5", None),
        ("two or 3", 2),
        ("someone", None),
        ("", None),
    ],
)
def test_the_number_in_an_answer(text, number):
    assert parse_number(text) == number
    assert same_number(text, 3) == (number == 3)


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        ("No", False),
        ("no.", False),
        ("No, there is none.", False),
        ("There is not a dog in it.", False),
        ("Yes. There is no cat, though.", True),  # the first sentence counts
        ("Nothing", True),
        ("NO", True),  # LLaVA knows No and no
        ("No!", True),
        ("", True),
    ],
)
def test_yes_or_no_as_llava_reads_it(text, yes):
    assert says_yes(text) is yes
