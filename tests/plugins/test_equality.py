"""One answer from four: Python reference, ONNX function, C++ core, phases of the CUDA kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto

from d2export.engine.bfloat16 import compute_in_float32
from d2export.export.onnx_function import prune_model
from d2export.pruning.parameters import PruneParameters
from tests.plugins.drivers import DTYPES, ORDERS, Drivers, stored
from tests.selection_cases import (
    BEYOND_FLOAT16,
    FLAVOURS,
    MARGIN,
    Array,
    Case,
    expected,
    has_margin,
    pairs,
    sweep,
)

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the ONNX function")

EXAMPLES, CASES = 500, 4  # of each dtype: 2,000 cases
ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
SPECIAL = (0.0, np.inf, -np.inf, np.nan)
GRIDS = st.integers(0, 6).map(float)


class OnnxFunction:
    """The op as standard operators, in ONNX Runtime."""

    def __init__(self, parameters: PruneParameters, dtype: str, heads: bool) -> None:
        model = prune_model(parameters, 17, ONNX_TYPES[dtype], heads=heads)
        if dtype == "bfloat16":
            compute_in_float32(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._wide = dtype == "bfloat16"  # emulated: float32 at the borders of the graph
        self._dtype = np.float32 if self._wide else np.dtype(dtype)

    def __call__(self, case: Case) -> Array:
        narrow = replace(case, features=case.features.astype(self._dtype))
        indices: Array = self._session.run(["indices"], vars(narrow))[0]
        return indices


@st.composite
def scores(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """Multiples of 2^-12, whose sum is exact in any order; sometimes with ties and specials."""
    limit = draw(st.sampled_from([2, 4095]))
    steps = draw(arrays.arrays(np.int16, shape, elements=st.integers(0, limit)))
    values = (steps / 4096).astype(np.float32)
    if draw(st.integers(0, 3)) == 0:
        special = draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 7)))
        values = np.where(special < 4, np.array(SPECIAL, np.float32)[special % 4], values)
    return values


@st.composite
def rows(draw: st.DrawFn, batch: int, tokens: int) -> Array:
    """Small whole numbers, which every dtype has; sometimes zero vectors, NaN, infinities."""
    channels = draw(st.sampled_from([1, 2, 3, 8]))
    shape = (batch, tokens, channels)
    features = draw(arrays.arrays(np.int8, shape, elements=st.integers(-2, 2)))
    features = features.astype(np.float32)
    if draw(st.integers(0, 2)) == 0:
        special = draw(arrays.arrays(np.int8, shape[:2], elements=st.integers(0, 19)))
        for kind, value in enumerate(SPECIAL):
            features[special == kind, 0 if kind else slice(None)] = value
    return features


@st.composite
def cases(draw: st.DrawFn, heads: bool) -> Case:
    tokens, batch = draw(st.integers(1, 14)), draw(st.integers(1, 2))
    shape = (batch, draw(st.integers(1, 3)), tokens) if heads else (batch, tokens)
    prior = draw(arrays.arrays(np.float32, tokens, elements=st.sampled_from([1.0, 0.5, 3.0, 0.0])))
    grid = draw(arrays.arrays(np.float32, (tokens, 2), elements=GRIDS))
    return Case(draw(rows(batch, tokens)), draw(scores(shape)), prior, grid)


@st.composite
def groups(draw: st.DrawFn) -> tuple[PruneParameters, list[Case]]:
    """Cases that share parameters, theta far from every similarity of theirs."""
    heads = draw(st.booleans())
    group = [draw(cases(heads)) for _ in range(CASES)]
    alpha = draw(st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]))
    values = np.unique(np.concatenate([pairs(case, alpha) for case in group]))
    edges = np.concatenate([[-5], values, [5]])
    wide = np.flatnonzero(np.diff(edges) > 3 * MARGIN)
    gap = wide[draw(st.integers(0, len(wide) - 1))]
    by_share = draw(st.booleans())
    parameters = PruneParameters(
        keep=0 if by_share else draw(st.integers(1, 15)),
        keep_permille=draw(st.integers(1, 1000)) if by_share else 0,
        pivot_ratio=draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
        alpha=alpha,
        theta=float((edges[gap] + edges[gap + 1]) / 2),
        eps=draw(st.sampled_from([0.0, 1e-7, 0.5])),
        pivots_block=draw(st.booleans()),
    )
    return parameters, group


def check(drivers: Drivers, case: Case, dtype: str, parameters: PruneParameters, turn: int) -> None:
    """Core and phases keep what the reference keeps, and copy its rows bit for bit."""
    wanted = expected(case, parameters)
    features = stored(case.features, dtype)
    rows_wanted = np.take_along_axis(features, wanted[..., None].astype(np.int64), axis=1)
    order = ORDERS[turn % len(ORDERS)]
    for kept, indices in (
        drivers.core(case, dtype, parameters),
        drivers.phases(case, dtype, parameters, blocks=1 + turn % 4, order=order),
    ):
        assert indices.tolist() == wanted.tolist(), parameters
        assert kept.tobytes() == rows_wanted.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(group=groups())
def test_on_generated_cases(
    drivers: Drivers, dtype: str, group: tuple[PruneParameters, list[Case]]
) -> None:
    parameters, members = group
    function = OnnxFunction(parameters, dtype, heads=members[0].importance.ndim == 3)
    for turn, case in enumerate(members):
        assert has_margin(case, parameters)
        check(drivers, case, dtype, parameters, turn)
        assert function(case).tolist() == expected(case, parameters).tolist(), parameters


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_on_degenerate_cases(drivers: Drivers, flavour: str) -> None:
    turn = 0
    for parameters, group in sweep(seed=5, flavour=flavour, groups=12, cases=3):
        for case in group:
            for dtype in DTYPES:
                if dtype != "float16" or flavour not in BEYOND_FLOAT16:
                    check(drivers, case, dtype, parameters, turn)
                    turn += 1


def test_no_tokens_and_no_channels(drivers: Drivers) -> None:
    empty = Case(
        np.zeros((2, 0, 5), np.float32),
        np.zeros((2, 3, 0), np.float32),
        np.zeros(0, np.float32),
        np.zeros((0, 2), np.float32),
    )
    flat = Case(
        np.zeros((1, 40, 0), np.float32),
        np.arange(40, dtype=np.float32)[None],
        np.ones(40, np.float32),
        np.zeros((40, 2), np.float32),
    )
    for parameters in (PruneParameters(keep=4), PruneParameters(keep_permille=300)):
        for dtype in DTYPES:
            kept, indices = drivers.core(empty, dtype, parameters)
            assert kept.shape == (2, 0, 5)
            assert indices.shape == (2, 0)
            check(drivers, flat, dtype, parameters, turn=0)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float32", 139 * 2.0**56),  # 1e19: three squares stay below the largest float32
        ("bfloat16", 139 * 2.0**56),
        ("float32", 2.0**-70),  # squares are denormal
        ("bfloat16", 2.0**-70),
        ("float16", 2.0**-24),  # elements are denormal
    ],
)
@pytest.mark.parametrize("turn", range(6))
def test_at_the_ends_of_the_number_range(
    drivers: Drivers, dtype: str, size: float, turn: int
) -> None:
    """Rows of -size, 0 and size, whose products float32 has exactly unless they overflow."""
    rng = np.random.default_rng(turn)
    tokens = 300
    features = np.zeros((1, tokens, 8), np.float32)
    features[:, :, :6] = rng.choice([-1, 0, 0, 1], (1, tokens, 6)) * size
    squares = np.square(features, dtype=np.float64).sum(axis=2)
    assert (squares > np.finfo(np.float32).max).any() == (size > 1)
    case = Case(
        features,
        (rng.integers(0, 4096, (1, tokens)) / 4096).astype(np.float32),
        np.ones(tokens, np.float32),
        rng.integers(0, 14, (tokens, 2)).astype(np.float32),
    )
    # Below 0, the cosine 0 of a row whose squares overflow makes edges; that of a NaN does not.
    theta = (0.76, -0.1)[turn % 2]
    parameters = PruneParameters(keep=90, alpha=1.0, theta=theta, pivots_block=turn % 3 == 0)
    assert has_margin(case, parameters)
    check(drivers, case, dtype, parameters, turn)


# --- More than one tile of candidates, more than one split of the channels -----------------------


def large_case(rng: np.random.Generator) -> tuple[PruneParameters, Case]:
    """130 to 450 tokens, some of them nearly alike, on a canvas of 14 x 14 places."""
    tokens, channels = int(rng.integers(130, 450)), int(rng.choice([3, 33, 64, 513, 1032]))
    batch, heads = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    kinds = rng.integers(-2, 3, (int(rng.integers(2, 300)), channels)).astype(np.float32)
    features = kinds[rng.integers(0, len(kinds), (batch, tokens))]
    flipped = rng.random(features.shape) < rng.choice([0, 0.02, 0.3])
    features = np.where(flipped, -features, features)
    features[rng.random((batch, tokens)) < 0.05] = rng.choice([0, 1, np.inf, np.nan])
    importance = (rng.integers(0, 4096, (batch, heads, tokens)) / 4096).astype(np.float32)
    grid = rng.integers(0, 14, (tokens, 2)).astype(np.float32)
    case = Case(features, importance, np.ones(tokens, np.float32), grid)

    alpha = float(rng.choice([0.25, 0.5, 1.0]))
    values = np.unique(pairs(case, alpha))
    wide = np.flatnonzero(np.diff(values) > 3 * MARGIN)
    gap = int(rng.choice(wide)) if len(wide) else len(values) - 1
    theta = float(values[gap : gap + 2].mean()) if len(wide) else float(values[-1]) + 1
    parameters = PruneParameters(
        keep=int(rng.integers(1, tokens)),
        pivot_ratio=float(rng.choice([0.0, 0.3, 0.7])),
        alpha=alpha,
        theta=theta,
        pivots_block=bool(rng.random() < 0.3),
    )
    return parameters, case


@pytest.mark.parametrize("seed", range(24))
def test_on_many_tokens_and_channels(drivers: Drivers, seed: int) -> None:
    parameters, case = large_case(np.random.default_rng(seed))
    assert has_margin(case, parameters)
    check(drivers, case, DTYPES[seed % 3], parameters, turn=seed)
