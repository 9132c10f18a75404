"""An even stride and a seeded order: golden numbers, properties, and the traced graphs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.rules.plain import (
    PRIME,
    random_scores,
    round_constants,
    stride_scores,
)
from d2export.pruning.rules.vectors import descending
from d2export.pruning.selection import select

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
seeds = st.integers(0, PRIME**2 - 1)


def strided(tokens: int, count: int) -> list[int]:
    """The tokens of score 1; the others have 0."""
    scores = stride_scores(torch.zeros(tokens), count)
    assert scores.dtype == torch.float32
    assert scores.shape == (tokens,)
    kept: list[int] = scores.nonzero().flatten().tolist()
    assert scores[kept].eq(1).all()
    return kept


def drawn(tokens: int, seed: int) -> Tensor:
    return random_scores(torch.zeros(tokens), seed)


# --- Stride -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "count", "expected"),
    [
        # floor((i n + h) / N) for i from 0 to N, and the i behind which it grows.
        (8, 2, [1, 5]),  # (2i + 4) / 8: 0 0 1 1 1 1 2 2 2
        (8, 3, [1, 3, 6]),  # (3i + 4) / 8: 0 0 1 1 2 2 2 3 3
        (7, 3, [1, 3, 5]),  # (3i + 3) / 7: 0 0 1 1 2 2 3 3
        (5, 1, [2]),  # (i + 2) / 5: 0 0 0 1 1 1
        (5, 4, [0, 1, 3, 4]),  # (4i + 2) / 5: 0 1 2 2 3 4
        (4, 4, [0, 1, 2, 3]),
        (4, 9, [0, 1, 2, 3]),  # no more than there are
        (3, 0, []),
        (1, 1, [0]),
        (0, 1, []),
    ],
)
def test_strides(tokens: int, count: int, expected: list[int]) -> None:
    assert strided(tokens, count) == expected


@settings(max_examples=200, deadline=None)
@given(tokens=st.integers(1, 4000), data=st.data())
def test_exactly_as_many_are_kept_at_even_distances(tokens: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, tokens))
    kept = strided(tokens, count)
    assert len(kept) == count
    # From the last to the first of the next round, too.
    distances = {b - a for a, b in pairwise([*kept, kept[0] + tokens])}
    assert distances <= {tokens // count, -(-tokens // count)}
    half = tokens // 2
    assert kept == [
        token
        for token in range(tokens)
        if ((token + 1) * count + half) // tokens > (token * count + half) // tokens
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_are_float32_whatever_they_are_like(dtype: torch.dtype) -> None:
    like = torch.full((3000,), float("nan"), dtype=dtype)
    zeros = torch.zeros(3000)
    for scores in (stride_scores(like, 7), stride_scores(like, torch.tensor(7))):
        assert scores.dtype == torch.float32
        assert scores.equal(stride_scores(zeros, 7))
    assert random_scores(like, 7).dtype == torch.float32
    assert random_scores(like, 7).equal(random_scores(zeros, 7))


# --- Random -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "constants"),
    [
        # Multiples of 28638 less some of 46337: 57276 - 46337, 85914 - 46337, 114552 - 92674, ...
        (0, (28638, 10939, 39577, 21878, 4179, 32817)),
        (1, (28638, 10940, 39577, 21879, 4179, 32817)),  # one more in both places
        (PRIME, (28638, 10939, 39577, 21879, 4179, 32817)),  # 46337 is 0, and 1 in the second
        (PRIME**2, (28638, 10939, 39577, 21878, 4179, 32817)),  # begins anew
    ],
)
def test_constants_of_the_rounds(seed: int, constants: tuple[int, ...]) -> None:
    assert round_constants(seed) == constants


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        # Token 0, seed 0: 28638³ = 40533, (40533 + 10939)³ = 43719, (43719 + 39577)³ = 7926,
        # (7926 + 21878)³ = 29726, (29726 + 4179)³ = 23466, (23466 + 32817)³ = 39447.
        (0, [39447, 18663, 8129, 20360, 41320, 19534, 5588, 20514]),
        (1, [17003, 39678, 3831, 12142, 12775, 7075, 23252, 38203]),
        (PRIME, [14470, 20035, 10104, 34364, 38114, 34511, 31743, 38855]),
    ],
)
def test_scores_of_the_first_tokens(seed: int, expected: list[int]) -> None:
    assert drawn(8, seed).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(token=st.integers(0, 3 * PRIME), seed=seeds)
def test_a_score_is_six_cubes_in_whole_numbers_of_any_size(token: int, seed: int) -> None:
    x = token
    for constant in round_constants(seed):
        x = (x + constant) ** 3 % PRIME
    assert drawn(token + 1, seed)[token] == x


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_each_of_46337_tokens_has_a_score_of_its_own_and_the_next_ones_repeat(seed: int) -> None:
    scores = drawn(PRIME + 500, seed)
    assert scores[:PRIME].sort().values.equal(torch.arange(PRIME, dtype=torch.float32))
    assert scores[PRIME:].equal(scores[:500])


@settings(max_examples=100, deadline=None)
@given(one=seeds, other=seeds)
def test_another_seed_is_another_order(one: int, other: int) -> None:
    orders = [descending(drawn(64, seed)).tolist() for seed in (one, other)]
    assert (orders[0] == orders[1]) == (one == other)


@settings(max_examples=50, deadline=None)
@given(seed=seeds, tokens=st.integers(0, 2000), more=st.integers(0, 2000))
def test_a_token_has_its_score_however_many_there_are(seed: int, tokens: int, more: int) -> None:
    assert drawn(tokens + more, seed)[:tokens].equal(drawn(tokens, seed))


def chi_square(counts: Tensor, expected: float) -> float:
    return float(((counts - expected) ** 2).sum() / expected)


# Bounds are quantiles of the distribution for independent draws: 0.1 % and 99.9 %.


@pytest.mark.parametrize("seed", [0, 1, 2, 12345])
def test_scores_and_those_of_neighbours_look_independent(seed: int) -> None:
    bins = (drawn(3328, seed) * 8 / PRIME).long()
    assert 0.6 < chi_square(bins.bincount(minlength=8), 3328 / 8) < 24.3  # 7 degrees of freedom
    for lag in (1, 2, 24, 64):  # in a row, and about a row of the picture apart
        cells = bins[lag:] * 8 + bins[:-lag]
        found = chi_square(cells.bincount(minlength=64), (3328 - lag) / 64)
        assert 34 < found < 103.4  # 63 degrees of freedom


def test_every_token_is_drawn_as_often_as_every_other() -> None:
    tokens, kept, draws = 576, 64, 1000
    count = torch.zeros(tokens)
    for seed in range(draws):
        count[drawn(tokens, seed).topk(kept).indices] += 1
    # Without replacement within a draw, counts vary less, by 1 - kept / tokens.
    found = chi_square(count, draws * kept / tokens) / (1 - kept / tokens)
    assert 475 < found < 686  # 575 degrees of freedom


def test_neighbouring_seeds_look_independent() -> None:
    for seed in (0, 1, 99, PRIME - 1, PRIME):
        one, other = ((drawn(3328, s) * 8 / PRIME).long() for s in (seed, seed + 1))
        found = chi_square((one * 8 + other).bincount(minlength=64), 3328 / 64)
        assert 34 < found < 103.4


# --- As importance ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10, 63, 64])
def test_a_plain_top_n_keeps_them(count: int) -> None:
    like = torch.zeros(64)
    parameters = PruneParameters(keep=count, pivot_ratio=1.0, eps=0.0)
    kept = [
        select(torch.zeros(1, 64, 3), scores[None], torch.ones(64), torch.zeros(64, 2), parameters)
        for scores in (stride_scores(like, count), random_scores(like, 5))
    ]
    assert kept[0].tolist() == [strided(64, count)]
    assert kept[1].tolist() == [random_scores(like, 5).topk(count).indices.sort().values.tolist()]


# --- In a graph ---------------------------------------------------------------------------------

# Operators that ONNX Runtime and TensorRT have for integers, too.
OPERATORS = {"Add", "Cast", "Constant", "Div", "Gather", "GreaterOrEqual", "Max", "Min", "Mod"}
OPERATORS |= {"Mul", "Range", "Reshape", "Shape", "Squeeze"}
SIZES = [0, 1, 2, 3, 63, 64, 65, 576, 3328, PRIME, PRIME + 1]


class Graph(nn.Module):
    def __init__(self, scores: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, like: Tensor) -> Tensor:
        return self.scores(like)


def stride_by_count(like: Tensor) -> Tensor:
    return stride_scores(like, torch.sym_min(64, like.shape[0]))


def stride_by_share(like: Tensor) -> Tensor:
    return stride_scores(like, torch.sym_max(1, like.shape[0] * 137 // 1000))


def random_of_seed_0(like: Tensor) -> Tensor:
    return random_scores(like, 0)


def random_of_a_large_seed(like: Tensor) -> Tensor:
    return random_scores(like, PRIME**2 - 1)


@pytest.mark.parametrize(
    "scores",
    [stride_by_count, stride_by_share, random_of_seed_0, random_of_a_large_seed],
    ids=lambda scores: scores.__name__,
)
def test_traced_it_gives_the_same_scores_for_any_number_of_tokens(
    scores: Callable[[Tensor], Tensor],
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graph")
    program = torch.onnx.export(
        Graph(scores).eval(),
        (torch.zeros(10),),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("tokens")},),
    )
    assert program is not None
    assert {node.domain for node in program.model.graph} == {""}
    assert {node.op_type for node in program.model.graph} <= OPERATORS
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    for tokens in SIZES:
        (found,) = session.run(None, {name: np.zeros(tokens, np.float32)})
        expected = scores(torch.zeros(tokens)).numpy()
        assert found.dtype == np.float32
        assert found.tobytes() == expected.tobytes(), tokens
