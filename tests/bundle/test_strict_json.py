from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from d2export.bundle.strict_json import JsonError, Pattern, Range, decode, encode, parse


@dataclass(frozen=True)
class Point:
    x: int
    y: float


@dataclass(frozen=True)
class Drawing:
    kind: Literal["dots", "lines"]
    points: tuple[Point, ...]
    size: tuple[int, int]
    labels: dict[Annotated[str, Pattern("[a-z]+", "lower-case letters")], str | int]
    opacity: Annotated[float, Range(0, 1)]
    closed: bool
    extra: dict[str, object]
    title: str | None = None


DRAWING = Drawing(
    "dots", (Point(1, 2.0),), (3, 4), {"a": 5, "b": "six"}, 0.5, True, {"any": [1, None, {}]}
)


def document() -> dict[str, Any]:
    json: dict[str, Any] = encode(DRAWING)
    return json


def test_a_record_survives_the_round_trip() -> None:
    assert document() == {
        "kind": "dots",
        "points": [{"x": 1, "y": 2.0}],
        "size": [3, 4],
        "labels": {"a": 5, "b": "six"},
        "opacity": 0.5,
        "closed": True,
        "extra": {"any": [1, None, {}]},
    }  # `title` is None by default, so it is left out
    assert decode(Drawing, document()) == DRAWING


def test_an_integer_is_a_number() -> None:
    point = decode(Point, {"x": 1, "y": 2})
    assert point == Point(1, 2.0)
    assert type(point.y) is float


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "dot", 'kind is "dot", expected "dots" or "lines"'),
        ("points", {}, "points is an object with 0 keys, expected an array"),
        ("points", [{"x": 1}], "points[0].y is missing, expected a value"),
        ("points", [{"x": True, "y": 0}], "points[0].x is true, expected an integer"),
        ("points", [{"x": 1.0, "y": 0}], "points[0].x is 1.0, expected an integer"),
        ("points", [{"x": 2**53, "y": 0}], "points[0].x is an integer beyond 2^53, expected"),
        ("points", [{"x": 1, "y": math.inf}], "points[0].y is Infinity, expected a finite number"),
        ("points", [{"x": 1, "y": 10**999}], "points[0].y is an integer beyond 2^53, expected"),
        ("points", [{"x": 1, "y": 0, "z": 0}], "points[0].z is an unknown key, expected one of x"),
        ("size", [3], "size is an array of 1, expected an array of 2"),
        ("labels", {"a b": 1}, 'labels["a b"] is "a b", expected lower-case letters'),
        ("labels", {"a": None}, "labels.a is null, expected a string or an integer"),
        ("opacity", 1.5, "opacity is 1.5, expected a number from 0 to 1"),
        ("closed", 1, "closed is 1, expected true or false"),
        ("extra", {"a": [0, math.nan]}, "extra.a[1] is NaN, expected a finite number"),
        ("title", 5, "title is 5, expected a string or null"),
        ("title", "\ud800", 'title is "\\ud800", expected a string without NUL'),
        ("title", "a\0b", 'title is "a\\u0000b", expected a string without NUL'),
        ("title", "x" * 9999, ""),
    ],
)
def test_a_misfit_is_named_with_its_place(key: str, value: object, message: str) -> None:
    changed = {**document(), key: value}
    if not message:
        assert decode(Drawing, changed).title == value
        return
    with pytest.raises(JsonError) as caught:
        decode(Drawing, changed)
    assert str(caught.value).startswith(message)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(JsonError, match=r'kind is "xxx.*x\.\.\. \(10001 characters\), expected'):
        decode(Drawing, {**document(), "kind": "x" * 9999})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"x": 1, "y": 2, "x": 3}', 'is an object with the key "x" twice, expected each key once'),
        ('{"x": NaN, "y": 2}', "x is NaN, expected an integer"),
        ('{"x": 1, "y": 1e999}', "y is Infinity, expected a finite number"),
        ("[1]", "the document is an array of 1, expected an object"),
        ('{"x": 1, "y"', "the document is not JSON (Expecting ':' delimiter"),
        ("[" * 1_000_000, "the document is nested too deep"),
        ("1" * 5000, "the document is not JSON"),
    ],
)
def test_what_json_readers_let_pass_is_refused(text: str, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        decode(Point, parse(text))
    assert message in str(caught.value)


def test_free_values_nest_32_deep() -> None:
    def nested(depth: int) -> object:
        return [nested(depth - 1)] if depth > 1 else []

    assert decode(Drawing, {**document(), "extra": {"a": nested(32)}})
    with pytest.raises(JsonError, match="nested too deep, expected at most 32 levels"):
        decode(Drawing, {**document(), "extra": {"a": nested(33)}})
