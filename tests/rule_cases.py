"""Tokens and scores that the rules of the selectors are tested with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from d2export.pruning.rules import RULES

NAN, INF = float("nan"), float("inf")
seeds = st.integers(0, 2**32 - 1)


def choose(op_type: str, features: Tensor, importance: Tensor, **attributes: Any) -> Tensor:
    """Indices `[B, M]` by the torch form of that op's rule, which may not read the importance."""
    rule = RULES[op_type]
    inputs = [importance] if rule.inputs else []
    in_torch = {"using": "torch"} if rule.native else {}
    return rule.select(features, *inputs, rule.parameters(**attributes), **in_torch)


def rows(*tokens: Sequence[float]) -> Tensor:
    """`[N, C]` features of one image."""
    return torch.tensor(tokens, dtype=torch.float32)


def one_hot(letters: str) -> Tensor:
    """`[N, 26]`: tokens of the same letter are alike, others at right angles."""
    return torch.eye(26)[[ord(letter) - ord("A") for letter in letters]]


def normal(seed: int, *shape: int) -> Tensor:
    """Numbers among which nothing is equal."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shuffled(seed: int, tokens: int) -> Tensor:
    """`[N]` int64: a permutation."""
    return torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))


def exact_products(features: Tensor) -> list[list[int]]:
    """Products of the directions in whole numbers, each pair, in Python's integers.

    For finite features that are neither huge nor tiny.
    """
    wide = features.numpy().astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True)).astype(np.float32)
    with np.errstate(divide="ignore"):
        inverse = np.where(length > 0, np.float32(1) / length, np.float32(0))
    unit = features.numpy().astype(np.float32) * inverse
    whole = [[int(value) for value in token] for token in np.rint(unit * np.float32(2048))]
    return [[sum(x * y for x, y in zip(a, b, strict=True)) for b in whole] for a in whole]


def budgets(tokens: int) -> Iterable[int]:
    """Every number of tokens that can stay."""
    return range(1, tokens + 1)


@st.composite
def features_of_any_kind(draw: st.DrawFn, tokens: int, batch: int = 1) -> Tensor:
    """`[B, N, C]`, C from 1 to 4: zero vectors, equal and opposite ones, NaN, Inf, the huge."""
    values = st.sampled_from((0.0, 0.0, 1.0, -1.0, 2.0, 3.0, INF, -INF, NAN, 1e30))
    shape = (batch, tokens, draw(st.integers(1, 4)))
    return torch.from_numpy(draw(hnp.arrays(np.float32, shape, elements=values)))


@st.composite
def scores_of_any_kind(draw: st.DrawFn, tokens: int, batch: int = 1) -> Tensor:
    """`[B, N]` or `[B, H, N]`: ties, NaN, Inf, the huge and the tiny."""
    values = st.sampled_from(
        (0.0, -0.0, 1.0, 2.0, 3.0, 0.25, -1.0, INF, -INF, NAN, 3e38, -3e38, 1e-45)
    )
    heads = draw(st.sampled_from([(), (1,), (3,)]))
    shape = (batch, *heads, tokens)
    return torch.from_numpy(draw(hnp.arrays(np.float32, shape, elements=values)))
