"""Defaults, limits and arithmetic of the attributes are the same in C++ and in Python."""

from __future__ import annotations

from ctypes import byref, c_bool
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from d2export.errors import UsageError
from d2export.pruning.parameters import PruneParameters
from tests.plugins.drivers import Drivers, Parameters


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
