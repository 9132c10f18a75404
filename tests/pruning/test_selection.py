"""The selection keeps what the reference keeps, on whatever comes: in torch and in native code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from d2export.errors import EnvironmentMismatch
from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.selection import BLOCK, Implementation, implementation, select
from tests.selection_cases import (
    BEYOND_FLOAT16,
    FLAVOURS,
    Array,
    Case,
    expected,
    has_margin,
    sweep,
)

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
needs_native = pytest.mark.skipif(
    not native.available(), reason="no native core: `d2export doctor` says why"
)
either = pytest.mark.parametrize("using", ["torch", pytest.param("native", marks=needs_native)])


def tensors(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    features, *rest = map(torch.from_numpy, vars(case).values())
    return features.to(dtype), *rest


def few(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from(values)


def filled(shape: tuple[int, ...], values: st.SearchStrategy[float]) -> st.SearchStrategy[Array]:
    return hnp.arrays(np.float32, shape, elements=values)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Values that float32 adds exactly in any order: ties, zeros, NaN and Inf among them."""
    tokens, batch = draw(st.integers(0, 12)), draw(st.integers(1, 2))
    channels = draw(st.integers(1, 4))
    heads = draw(st.sampled_from([(), (1,), (3,)]))
    nan, inf = float("nan"), float("inf")
    return Case(
        draw(filled((batch, tokens, channels), few(0, 1, -1, 2, 3, inf, nan))),
        draw(filled((batch, *heads, tokens), few(0, -0.0, 1, 2, 3, 0.25, -1, inf, -inf, nan))),
        draw(filled((tokens,), few(1, 0.5, 0, 3))),
        draw(filled((tokens, 2), st.integers(0, 6).map(float))),
    )


parameters_of_any_kind = st.builds(
    lambda amount, **others: PruneParameters(*amount, **others),
    amount=st.one_of(
        st.tuples(st.integers(1, 14), st.just(0)), st.tuples(st.just(0), st.integers(1, 1000))
    ),
    pivot_ratio=st.floats(0, 1),
    alpha=few(0, 0.3, 0.5, 1),
    theta=st.floats(-1.5, 1.5, width=32),
    eps=few(0, 1e-7, 0.5),
    pivots_block=st.booleans(),
)


@either
@settings(max_examples=300, deadline=None)
@given(case=cases(), parameters=parameters_of_any_kind)
def test_equals_the_reference(
    case: Case, parameters: PruneParameters, using: Implementation
) -> None:
    assume(has_margin(case, parameters))
    indices = select(*tensors(case), parameters, using)
    assert indices.dtype == torch.int32
    assert indices.tolist() == expected(case, parameters).tolist()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@either
def test_equals_the_reference_in_every_dtype(
    flavour: str, dtype: torch.dtype, using: Implementation
) -> None:
    if dtype == torch.float16 and flavour in BEYOND_FLOAT16:
        dtype = torch.float32
    for parameters, group in sweep(seed=1, flavour=flavour, groups=8, cases=2):
        for case in group:
            features, *rest = tensors(case, dtype)
            assert (
                features.float().equal(torch.from_numpy(case.features))
                or (case.features != case.features).any()
            )
            kept = select(features, *rest, parameters, using)
            assert kept.tolist() == expected(case, parameters).tolist(), parameters


@either
def test_half_precision_features_are_compared_in_float32(using: Implementation) -> None:
    # Cosine 0.99997: above a theta of 0.9999 in float32; the nearest float16 below 1 is 0.9995.
    features = torch.tensor([[[1, 0], [128, 1], [0, 1]]], dtype=torch.float16)
    scores, prior, grid = torch.tensor([[3.0, 2.0, 1.0]]), torch.ones(3), torch.zeros(3, 2)
    for theta, kept in ((0.9999, [0, 2]), (0.99999, [0, 1])):
        parameters = PruneParameters(keep=2, pivot_ratio=0, alpha=1, theta=theta)
        assert select(features, scores, prior, grid, parameters, using).tolist() == [kept]


# --- Shapes and determinism ---------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@either
def test_no_tokens_is_no_error(batch: int, using: Implementation) -> None:
    features, prior, grid = torch.zeros(batch, 0, 8), torch.zeros(0), torch.zeros(0, 2)
    for importance in (torch.zeros(batch, 0), torch.zeros(batch, 4, 0)):
        kept = select(features, importance, prior, grid, PruneParameters(keep=5), using)
        assert kept.shape == (batch, 0)
        assert kept.dtype == torch.int32


@either
def test_images_of_a_batch_do_not_see_each_other(using: Implementation) -> None:
    rng = np.random.default_rng(5)
    features = torch.from_numpy(rng.integers(-2, 3, (4, 30, 3)).astype(np.float32))
    scores = torch.from_numpy(rng.integers(0, 9, (4, 30)).astype(np.float32))
    prior = torch.ones(30)
    grid = torch.from_numpy(rng.integers(0, 7, (30, 2)).astype(np.float32))
    parameters = PruneParameters(keep=12, theta=0.61234)
    together = select(features, scores, prior, grid, parameters, using)
    for image in range(4):
        one = slice(image, image + 1)
        alone = select(features[one], scores[one], prior, grid, parameters, using)
        assert alone.equal(together[one])


@either
def test_inputs_are_left_alone_and_may_be_strided(using: Implementation) -> None:
    (parameters, group), *_ = sweep(seed=2, flavour="infinite scores", groups=1, cases=1)
    arguments = tensors(group[0])
    before = [tensor.clone() for tensor in arguments]
    first = select(*arguments, parameters, using)
    strided = [tensor.repeat_interleave(2, dim=-1)[..., ::2] for tensor in arguments]
    assert select(*strided, parameters, using).equal(first)
    for tensor, copy in zip(arguments, before, strict=True):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0, equal_nan=True)


@either
def test_the_same_input_gives_the_same_tokens(using: Implementation) -> None:
    generator = torch.Generator().manual_seed(0)
    arguments = (
        torch.randn(1, 600, 32, generator=generator),
        torch.rand(1, 600, generator=generator),
        torch.ones(600),
        torch.rand(600, 2, generator=generator),
    )
    parameters = PruneParameters(keep=300, theta=0.5)
    first = select(*arguments, parameters, using)
    assert all(select(*arguments, parameters, using).equal(first) for _ in range(3))
    assert first.diff().gt(0).all()


# --- Blocks -------------------------------------------------------------------------------------


def one_hot(ids: Array) -> Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(ids)).float()[None]


@either
def test_a_token_is_blocked_by_one_of_an_earlier_block(using: Implementation) -> None:
    # 0..299 in alike pairs; 300..599 look like 0..299; 600..699 like nothing before.
    ids = np.concatenate([np.arange(300) // 2, np.arange(300) // 2, 150 + np.arange(100)])
    assert BLOCK < 300 < 2 * BLOCK < 600 < 700
    descending = torch.arange(700, 0, -1, dtype=torch.float32)[None]
    grid, prior = torch.zeros(700, 2), torch.ones(700)
    first_of_each_pair, new = list(range(0, 300, 2)), list(range(600, 700))

    def kept(count: int) -> list[int]:
        parameters = PruneParameters(keep=count, pivot_ratio=0, alpha=1)
        indices = select(one_hot(ids), descending, prior, grid, parameters, using)
        kept: list[int] = indices[0].tolist()
        return kept

    assert kept(100) == first_of_each_pair[:100]  # inside the first block
    assert kept(128) == first_of_each_pair[:128]  # all that the first block has
    assert kept(129) == first_of_each_pair[:129]
    assert kept(250) == first_of_each_pair + new  # the whole independent set
    assert kept(253) == sorted([*first_of_each_pair, *new, 1, 3, 5])  # and the best of the rest


@pytest.mark.parametrize("pivots_block", [False, True])
@pytest.mark.parametrize("seed", range(4))
@either
def test_many_tokens_of_few_kinds_equal_the_reference(
    seed: int, pivots_block: bool, using: Implementation
) -> None:
    rng = np.random.default_rng(seed)
    tokens = 700
    case = Case(
        rng.choice(np.array([-1, 1], np.float32), (1, tokens, 4)),
        rng.integers(0, 50, (1, 2, tokens)).astype(np.float32),
        rng.choice(np.array([1, 2], np.float32), tokens),
        rng.integers(0, 3, (tokens, 2)).astype(np.float32),
    )
    # Exhausts the independent set: at most 16 directions in 9 places.
    parameters = PruneParameters(
        keep=[20, 60, 200, 690][seed], pivot_ratio=0.1, theta=0.9123, pivots_block=pivots_block
    )
    assert has_margin(case, parameters)
    kept = select(*tensors(case), parameters, using)
    assert kept.tolist() == expected(case, parameters).tolist()


# --- Which implementation -----------------------------------------------------------------------


def test_the_native_core_selects_on_the_cpu_where_it_was_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert implementation("cuda") == "torch"
    for built, used in ((True, "native"), (False, "torch")):
        monkeypatch.setattr(native, "available", lambda built=built: built)
        assert implementation() == used
        assert implementation(torch.device("cpu")) == used


def test_without_the_native_core_torch_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    parameters = PruneParameters(keep=2)
    assert select(**FITTING, parameters=parameters).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(EnvironmentMismatch, match="no native core\n  `d2export doctor` says why"):
        select(**FITTING, parameters=parameters, using="native")


@needs_native
def test_a_tensor_that_wants_a_gradient_is_only_read() -> None:
    features = FITTING["features"].clone().requires_grad_()
    kept = select(**(FITTING | {"features": features}), parameters=PruneParameters(keep=2))
    assert kept.tolist() == [[0, 1], [0, 1]]


# --- Arguments that do not fit ------------------------------------------------------------------

FITTING = {
    "features": torch.zeros(2, 5, 3),
    "importance": torch.zeros(2, 5),
    "prior": torch.ones(5),
    "grid": torch.zeros(5, 2),
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features", torch.zeros(5, 3), "features has shape [5, 3], expected [B, N, C]"),
        (
            "features",
            torch.zeros(2, 5, 3, dtype=torch.float64),
            "features is torch.float64, expected float32, float16 or bfloat16",
        ),
        (
            "importance",
            torch.zeros(5),
            "importance has shape [5], expected [2, 5] or [2, H, 5]",
        ),
        (
            "importance",
            torch.zeros(2, 6),
            "importance has shape [2, 6], expected [2, 5] or [2, H, 5]",
        ),
        (
            "importance",
            torch.zeros(1, 5),
            "importance has shape [1, 5], expected [2, 5] or [2, H, 5]",
        ),
        (
            "importance",
            torch.zeros(2, 5, 4),
            "importance has shape [2, 5, 4], expected [2, 5] or [2, H, 5]",
        ),
        (
            "importance",
            torch.zeros(2, 1, 4, 5),
            "importance has shape [2, 1, 4, 5], expected [2, 5] or [2, H, 5]",
        ),
        ("importance", torch.zeros(2, 0, 5), "importance has 0 heads, expected at least 1"),
        (
            "importance",
            torch.zeros(2, 5, dtype=torch.float16),
            "importance is torch.float16, expected float32",
        ),
        ("prior", torch.ones(1), "prior has shape [1], expected [5]"),
        ("prior", torch.ones(1, 5), "prior has shape [1, 5], expected [5]"),
        (
            "prior",
            torch.ones(5, dtype=torch.float64),
            "prior is torch.float64, expected float32",
        ),
        ("grid", torch.zeros(5, 3), "grid has shape [5, 3], expected [5, 2]"),
        ("grid", torch.zeros(6, 2), "grid has shape [6, 2], expected [5, 2]"),
        (
            "grid",
            torch.zeros(5, 2, dtype=torch.int64),
            "grid is torch.int64, expected float32",
        ),
    ],
)
@pytest.mark.parametrize("count", [2, 9], ids=["some", "all"])
def test_an_argument_that_does_not_fit_is_named(
    name: str, value: Tensor, message: str, count: int
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        select(**(FITTING | {name: value}), parameters=PruneParameters(keep=count))
    assert str(caught.value) == message
