"""Defaults, limits and arithmetic of the attributes are the same in C++ and in Python."""

from __future__ import annotations

from ctypes import byref, c_bool, create_string_buffer
from dataclasses import fields
from itertools import product
from typing import Any

import numpy as np
import pytest

from d2export.errors import UsageError
from d2export.pruning.parameters import PruneParameters, share_of
from d2export.pruning.rule_parameters import DeduplicateParameters
from d2export.pruning.rules import RULES
from tests.plugins.drivers import Drivers, Parameters
from tests.plugins.rule_phases import attributes_of

RULE_OPS = ("MaxMinPrune", "DppPrune", "DeduplicatePrune")


def native(**values: Any) -> Parameters:
    return Parameters(**{**PruneParameters(keep=1).attributes(), **values})


def test_defaults(drivers: Drivers) -> None:
    parameters = Parameters()
    drivers.library.d2export_default_parameters(byref(parameters))
    names = [name for name, _ in Parameters._fields_]
    assert names == [field.name for field in fields(PruneParameters)]
    for field in fields(PruneParameters):
        expected = field.default
        if isinstance(expected, float):
            expected = np.float32(expected)
        assert getattr(parameters, field.name) == expected, field.name


@pytest.mark.parametrize(
    "values",
    [
        {"keep": 0},
        {"keep": -3},
        {"keep": 4, "keep_permille": 250},
        {"keep": 0, "keep_permille": 1000},
        {"keep": 0, "keep_permille": 1001},
        *({name: value} for name in ("pivot_ratio", "alpha") for value in (0.0, 1.0, 1.1, -0.1)),
        *({name: float("nan")} for name in ("pivot_ratio", "alpha", "theta", "eps")),
        *({name: float("inf")} for name in ("pivot_ratio", "alpha", "theta", "eps")),
        {"theta": -5.0},
        {"eps": 0.0},
        {"eps": -1e-9},
    ],
)
def test_limits(drivers: Drivers, values: dict[str, Any]) -> None:
    has_fault = drivers.library.d2export_has_fault
    has_fault.restype = c_bool
    try:
        PruneParameters(**{"keep": 1, **values})
    except UsageError:
        assert has_fault(byref(native(**values)))
    else:
        assert not has_fault(byref(native(**values)))


def test_counts(drivers: Drivers) -> None:
    for values in ({"keep": 64}, {"keep": 2**40}, {"keep": 0, "keep_permille": 333}):
        python = PruneParameters(**values)
        for tokens in (0, 1, 2, 63, 64, 65, 3328, 16384):
            kept = drivers.library.d2export_kept(byref(native(**values)), tokens)
            assert kept == python.kept(tokens)
    for ratio in (0.0, 0.1, 0.13, 0.3, 0.7, 0.9, 1.0):
        python = PruneParameters(keep=1, pivot_ratio=ratio)
        for kept in range(2000):
            pivots = drivers.library.d2export_pivots(byref(native(pivot_ratio=ratio)), kept)
            assert pivots == python.pivots(kept)


# --- The ops besides D2Prune --------------------------------------------------------------------


@pytest.mark.parametrize("op_type", RULE_OPS)
def test_defaults_of_a_rule(drivers: Drivers, op_type: str) -> None:
    python = RULES[op_type].parameters
    found, names = attributes_of(python(keep=7)), create_string_buffer(256)
    drivers.library.d2export_rule_defaults(op_type.encode(), byref(found), names)
    assert names.value.decode().split() == [field.name for field in fields(python)]
    for field in fields(python):
        assert getattr(found, field.name) == np.float32(field.default), field.name


@pytest.mark.parametrize(
    ("op_type", "values"),
    [
        *product(
            RULE_OPS,
            (
                {},
                {"keep": 0},
                {"keep": -3},
                {"keep": 4, "keep_permille": 250},
                {"keep": 0, "keep_permille": 1000},
                {"keep": 0, "keep_permille": 1001},
            ),
        ),
        *(
            ("DeduplicatePrune", {"important_ratio": value})
            for value in (0.0, 1.0, 1.1, -0.1, float("nan"))
        ),
    ],
)
def test_limits_of_a_rule(drivers: Drivers, op_type: str, values: dict[str, Any]) -> None:
    python = RULES[op_type].parameters
    has_fault = drivers.library.d2export_rule_has_fault
    has_fault.restype = c_bool
    given = attributes_of(python(keep=1))
    for name, value in values.items():
        setattr(given, name, value)
    try:
        python(**{"keep": 1, **values})
    except UsageError:
        assert has_fault(op_type.encode(), byref(given))
    else:
        assert not has_fault(op_type.encode(), byref(given))


def test_counts_of_the_rules(drivers: Drivers) -> None:
    for op_type in RULE_OPS:
        for values in ({"keep": 64}, {"keep": 2**40}, {"keep_permille": 333}):
            python = RULES[op_type].parameters(**values)
            for tokens in (0, 1, 2, 63, 64, 65, 3328, 16384):
                arguments = op_type.encode(), byref(attributes_of(python)), tokens
                assert drivers.library.d2export_rule_kept(*arguments) == python.kept(tokens)
    for ratio in (0.0, 0.1, 0.13, 0.3, 0.7, 0.9, 1.0):
        given = attributes_of(DeduplicateParameters(keep=1, important_ratio=ratio))
        for kept in range(2000):
            assert drivers.library.d2export_important(byref(given), kept) == share_of(ratio, kept)
