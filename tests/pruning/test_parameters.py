"""What a user may ask for, and how many tokens that is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from d2export.errors import UsageError
from d2export.pruning.parameters import PruneParameters, parse_keep

# --- --keep -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keep", "keep_permille"),
    [
        ("64", 64, 0),
        (" 64 ", 64, 0),
        ("+64", 64, 0),
        ("1", 1, 0),
        ("2147483647", 2**31 - 1, 0),
        ("25%", 0, 250),
        ("12.5%", 0, 125),
        ("12.50%", 0, 125),
        ("0.1%", 0, 1),
        ("100%", 0, 1000),
        ("all", 0, 1000),
        ("ALL", 0, 1000),
    ],
)
def test_keep_is_a_count_a_share_or_all(text: str, keep: int, keep_permille: int) -> None:
    assert parse_keep(text) == (keep, keep_permille)


def test_every_share_of_one_decimal_is_exact() -> None:
    shares = {f"{permille // 10}.{permille % 10}%": permille for permille in range(1, 1001)}
    assert {text: parse_keep(text) for text in shares} == {
        text: (0, permille) for text, permille in shares.items()
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0", "at least 1 token must stay"),
        ("-3", "at least 1 token must stay"),
        ("2147483648", "the largest count is 2147483647"),
        ("9" * 5000, "the largest count is 2147483647"),  # more digits than int() reads
        ("0%", "between 0.1% and 100%"),
        ("-25%", "between 0.1% and 100%"),
        ("0.05%", "between 0.1% and 100%"),
        ("300%", "between 0.1% and 100%"),
        ("9" * 5000 + "%", "between 0.1% and 100%"),
        ("100.1%", "between 0.1% and 100%"),
        ("33.33%", "one decimal at most"),
        ("abc", "expected a count such as 64"),
        ("", "expected a count such as 64"),
        ("6.4", "expected a count such as 64"),
        ("1e3", "expected a count such as 64"),
        ("nan%", "expected a count such as 64"),
        (".5%", "expected a count such as 64"),
        ("25 %", "expected a count such as 64"),
        ("64 tokens", "expected a count such as 64"),
    ],
)
def test_anything_else_is_refused_with_the_value(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_keep(text)
    assert text in caught.value.problem
    assert reason in caught.value.problem


# --- How many stay ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "tokens", "kept"),
    [
        (PruneParameters(keep=64), 256, 64),
        (PruneParameters(keep=64), 64, 64),
        (PruneParameters(keep=64), 10, 10),  # never more than there are
        (PruneParameters(keep=64), 0, 0),
        (PruneParameters(keep=2**40), 256, 256),
        (PruneParameters(keep_permille=250), 256, 64),
        (PruneParameters(keep_permille=333), 10, 3),  # 3.33 rounds down
        (PruneParameters(keep_permille=999), 10, 9),
        (PruneParameters(keep_permille=1), 10, 1),  # at least one
        (PruneParameters(keep_permille=1), 0, 0),  # unless there is none
        (PruneParameters(keep_permille=1000), 3328, 3328),
    ],
)
def test_kept(parameters: PruneParameters, tokens: int, kept: int) -> None:
    assert parameters.kept(tokens) == kept


@pytest.mark.parametrize(
    ("pivot_ratio", "kept", "pivots"),
    [
        (0.7, 64, 44),  # 44.8
        (0.7, 1, 0),
        (0.7, 2, 1),
        (0.0, 64, 0),
        (1.0, 64, 64),
        (0.5, 7, 3),
    ],
)
def test_pivots_are_a_share_of_the_kept_rounded_down(
    pivot_ratio: float, kept: int, pivots: int
) -> None:
    assert PruneParameters(keep=1, pivot_ratio=pivot_ratio).pivots(kept) == pivots


def test_the_pivot_product_is_rounded_to_float32_as_a_graph_does() -> None:
    # 0.29 * 100 is 28.999... in float64, and 29 exactly when rounded to float32.
    assert int(0.29 * 100) == 28
    assert PruneParameters(keep=100, pivot_ratio=0.29).pivots(100) == 29


def test_whole_products_of_the_default_ratio_are_never_one_short() -> None:
    for tenth in range(1, 1000):
        assert PruneParameters(keep=1).pivots(10 * tenth) == 7 * tenth


def test_a_ratio_that_float32_rounds_down_can_be_one_short() -> None:
    # 0.13 is 0.129999995 in float32: what every implementation multiplies.
    assert PruneParameters(keep=900, pivot_ratio=0.13).pivots(900) == 116


# --- Attributes ---------------------------------------------------------------------------------


def test_attributes_are_ints_and_floats_in_the_order_of_the_fields() -> None:
    parameters = PruneParameters(keep=64, pivots_block=True)
    assert parameters.attributes() == {
        "keep": 64,
        "keep_permille": 0,
        "pivot_ratio": 0.7,
        "alpha": 0.5,
        "theta": 0.8,
        "eps": 1e-7,
        "pivots_block": 1,
    }
    assert list(parameters.attributes()) == list(asdict(parameters))


def test_attributes_have_their_type_whatever_number_was_given() -> None:
    # An ONNX attribute has the type of the value it is made from.
    parameters = PruneParameters(keep=1, pivot_ratio=0, alpha=1, theta=0, eps=0, pivots_block=True)
    types = {name: type(value) for name, value in parameters.attributes().items()}
    assert types == {
        "keep": int,
        "keep_permille": int,
        "pivot_ratio": float,
        "alpha": float,
        "theta": float,
        "eps": float,
        "pivots_block": int,
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "keep=0 and keep_permille=0: expected exactly one of them above 0"),
        (
            {"keep": 64, "keep_permille": 250},
            "keep=64 and keep_permille=250: expected exactly one of them above 0",
        ),
        (
            {"keep": -1, "keep_permille": 250},
            "keep=-1 and keep_permille=250: expected exactly one of them above 0",
        ),
        ({"keep": -1}, "keep=-1 and keep_permille=0: expected exactly one of them above 0"),
        ({"keep_permille": 1001}, "keep_permille is 1001, expected 1 to 1000"),
        ({"keep": 1, "pivot_ratio": 1.1}, "pivot_ratio is 1.1, expected a number from 0 to 1"),
        ({"keep": 1, "pivot_ratio": -0.1}, "pivot_ratio is -0.1, expected a number from 0 to 1"),
        (
            {"keep": 1, "pivot_ratio": float("nan")},
            "pivot_ratio is nan, expected a number from 0 to 1",
        ),
        ({"keep": 1, "alpha": 2}, "alpha is 2, expected a number from 0 to 1"),
        ({"keep": 1, "alpha": float("nan")}, "alpha is nan, expected a number from 0 to 1"),
        ({"keep": 1, "theta": float("inf")}, "theta is inf, expected a finite float32 number"),
        ({"keep": 1, "theta": float("nan")}, "theta is nan, expected a finite float32 number"),
        ({"keep": 1, "theta": -1e39}, "theta is -1e+39, expected a finite float32 number"),
        (
            {"keep": 1, "eps": -1e-7},
            "eps is -1e-07, expected a finite float32 number of at least 0",
        ),
        ({"keep": 1, "eps": 1e39}, "eps is 1e+39, expected a finite float32 number of at least 0"),
        (
            {"keep": 1, "eps": float("nan")},
            "eps is nan, expected a finite float32 number of at least 0",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        PruneParameters(**arguments)
    assert caught.value.problem == problem


@pytest.mark.parametrize("theta", [-5, 0, 1, 100, 3.4028234663852886e38])
def test_any_finite_theta_is_a_parameter(theta: float) -> None:
    assert PruneParameters(keep=1, theta=theta).theta == theta
