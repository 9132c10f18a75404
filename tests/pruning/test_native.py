"""The Python module of the native core: whatever shares its memory goes in, all else is refused."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import fields
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from d2export.errors import EnvironmentMismatch
from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.rule_parameters import DeduplicateParameters, DppParameters, MaxMinParameters
from tests.command import ROOT
from tests.selection_cases import Array, expected, sweep

PARAMETERS = PruneParameters(keep=2)
FITTING: dict[str, Any] = {
    "features": np.zeros((2, 5, 3), np.float32),
    "importance": np.zeros((2, 5), np.float32),
    "prior": np.ones(5, np.float32),
    "grid": np.zeros((5, 2), np.float32),
}

needs_native = pytest.mark.skipif(
    not native.available(), reason="no native core: `d2export doctor` says why"
)


def bits(array: Array) -> Array:
    return array.view(f"uint{8 * array.itemsize}")


@needs_native
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_prune_keeps_the_rows_that_select_names(dtype: Any) -> None:
    for parameters, group in sweep(seed=3, flavour="infinite scores", groups=4, cases=2):
        for case in group:
            features = case.features.astype(dtype)
            rest = (case.importance, case.prior, case.grid, parameters)
            kept, indices = native.prune(features, *rest)
            assert indices.dtype == np.int32
            assert indices.tolist() == expected(case, parameters).tolist()
            assert np.array_equal(native.select(features, *rest), indices)
            assert kept.dtype == dtype
            rows = np.take_along_axis(bits(features), indices[..., None].astype(np.int64), axis=1)
            assert np.array_equal(bits(kept), rows)


@needs_native
def test_arrays_and_tensors_of_all_kinds() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(-3, 4, (2, 40, 6)).astype(np.float32)
    rest = (
        rng.random((2, 40)).astype(np.float32),
        np.ones(40, np.float32),
        rng.integers(0, 9, (40, 2)).astype(np.float32),
        PruneParameters(keep=17, theta=0.51234),
    )
    indices = native.select(features, *rest)
    read_only = features.copy()
    read_only.flags.writeable = False
    for same in (
        read_only,
        np.asfortranarray(features),
        features.repeat(2, axis=-1)[..., ::2],
        features[::-1].copy()[::-1],
        torch.from_numpy(features),
        torch.from_numpy(features).bfloat16(),
        torch.from_numpy(features).half().transpose(0, 2).contiguous().transpose(0, 2),
        torch.from_numpy(features).requires_grad_(),
    ):
        assert np.array_equal(native.select(same, *rest), indices)


@needs_native
def test_other_threads_run_meanwhile() -> None:
    features = np.random.default_rng(0).standard_normal((1, 4000, 512)).astype(np.float32)
    arguments = (
        features,
        np.random.default_rng(1).random((1, 4000)).astype(np.float32),
        np.ones(4000, np.float32),
        np.zeros((4000, 2), np.float32),
        PruneParameters(keep=2500, theta=0.99, pivots_block=True, alpha=1),  # no neighbours
    )
    spent = []

    def work() -> None:
        begin = time.perf_counter()
        native.select(*arguments)
        spent.append(time.perf_counter() - begin)

    thread = threading.Thread(target=work)
    thread.start()
    moments = [time.perf_counter()]
    while thread.is_alive():
        moments.append(time.perf_counter())
    thread.join()
    assert np.diff(moments).max() < spent[0] / 2, "this thread stood still"


@needs_native
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features", FITTING["features"][0], "has shape [5, 3], expected [B, N, C]"),
        (
            "features",
            FITTING["features"].astype(np.float64),
            "is float64, expected float32, float16 or bfloat16",
        ),
        (
            "features",
            FITTING["features"].astype(np.uint16),
            "is uint16, expected float32, float16 or bfloat16",
        ),
        (
            "features",
            FITTING["features"] > 0,
            "is bool, expected float32, float16 or bfloat16",
        ),
        (
            "features",
            [[[1.0]]],
            "is a list, expected a numpy array or a tensor in host memory",
        ),
        (
            "features",
            torch.empty(2, 5, 3, device="meta"),
            "is a torch.Tensor, expected a numpy array or a tensor in host memory",
        ),
        (
            "features",
            np.ndarray((2, 5, 3), np.float32, bytes(121), offset=1),
            "is not aligned to 4 bytes, expected an aligned array, such as a copy",
        ),
        (
            "importance",
            np.zeros(5, np.float32),
            "has shape [5], expected [2, 5] or [2, H, 5]",
        ),
        (
            "importance",
            np.zeros((2, 1, 4, 5), np.float32),
            "has shape [2, 1, 4, 5], expected [2, 5] or [2, H, 5]",
        ),
        ("importance", np.zeros((2, 0, 5), np.float32), "has 0 heads, expected at least 1"),
        ("importance", np.zeros((2, 5), np.float16), "is float16, expected float32"),
        ("prior", np.ones(6, np.float32), "has shape [6], expected [5]"),
        ("prior", np.ones(5), "is float64, expected float32"),
        ("grid", np.zeros((5, 3), np.float32), "has shape [5, 3], expected [5, 2]"),
        ("grid", np.zeros((5, 2), np.int64), "is int64, expected float32"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(name: str, value: Any, message: str) -> None:
    for function in (native.select, native.prune):
        with pytest.raises(ValueError, match=r".") as caught:
            function(**(FITTING | {name: value}), parameters=PARAMETERS)
        assert str(caught.value) == f"{name} {message}"


@needs_native
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "keep=0 and keep_permille=0: expected exactly one of them above 0"),
        ({"keep": 1, "theta": 1e39}, "theta is inf, expected a finite number"),
        ({"keep": 1, "alpha": 1.5}, "alpha is 1.5, expected a number from 0 to 1"),
        ({"keep": 1, "dtype": "int8"}, "dtype is 'int8', expected 'bfloat16' or None"),
        (
            {"keep": 1, "dtype": "bfloat16"},
            "features is float32, expected uint16, the bits of bfloat16",
        ),
    ],
)
def test_attributes_are_checked_again(attributes: dict[str, Any], message: str) -> None:
    """Whoever calls the module itself has no PruneParameters."""
    from d2export import _native

    with pytest.raises(ValueError, match=r".") as caught:
        _native.select(**FITTING, **attributes)
    assert str(caught.value) == message


@needs_native
@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ("select", PruneParameters),
        ("prune", PruneParameters),
        ("select_positions", PruneParameters),
        ("select_max_min", MaxMinParameters),
        ("select_dpp", DppParameters),
        ("select_deduplicate", DeduplicateParameters),
    ],
)
def test_attributes_have_the_names_and_defaults_of_the_op(function: str, parameters: Any) -> None:
    from d2export import _native

    description, _, defaults = getattr(_native, function).__nb_signature__[0]
    keywords = description.split("*, ")[1].split(")")[0]
    names = [keyword.split(":")[0] for keyword in keywords.split(", ")]
    attributes = {field.name: field.default for field in fields(parameters)}
    assert names == [*attributes, "dtype"]
    for (name, value), found in zip(attributes.items(), defaults, strict=False):
        assert type(value)(np.float32(found)) == type(value)(np.float32(value)), name


@needs_native
def test_the_stub_describes_the_module() -> None:
    from d2export import _native

    stub = (ROOT / "d2export" / "_native.pyi").read_text()
    public = {name for name in dir(_native) if not name.startswith("_")}
    assert public == set(re.findall(r"^def (\w+)", stub, re.MULTILINE))
    assert set(_native.build_info()) == {"vectors", "parts"}


def test_without_the_native_core_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    for function in (native.select, native.prune):
        with pytest.raises(EnvironmentMismatch, match="has no native core\n  `d2export doctor`"):
            function(**FITTING, parameters=PARAMETERS)
