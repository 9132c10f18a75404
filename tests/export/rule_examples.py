"""Inputs of the rules such that no rounding can change the answer, and what their references say.

Either all arithmetic is exact, so that ties are ties everywhere, or, where a rule adds in float32
what is not whole, noise a hundred times larger than that of float32 leaves the answer as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2export.export.ops import CORRELATION_OP_TYPE, OPS
from d2export.pruning.parameters import OP_TYPE, POSITIONS_OP_TYPE
from d2export.pruning.rules import dart, deduplicate, dpp, elbow, max_min
from d2export.pruning.selection import mean_over_heads

ELBOWS = ("ElbowPrune", "ElbowPrunePadded")
ON_THEIR_OWN = (OP_TYPE, POSITIONS_OP_TYPE, CORRELATION_OP_TYPE)  # ops with tests of their own
OP_TYPES = [op_type for op_type in OPS if op_type not in ON_THEIR_OWN]
ROUNDED = ("DartPrune",)  # the others compare what the order of adding leaves as it is
NOISE, NOISY_COPIES = 1e-5, 8
Generator = np.random.Generator


@dataclass(frozen=True)
class Example:
    """Inputs of an op, `[B, N, C]` and `[B, N]` or `[B, H, N]`, and its attributes."""

    op_type: str
    features: Tensor
    importance: Tensor
    parameters: Any

    def inputs(self) -> dict[str, Tensor]:
        """Those that the op reads, by name."""
        return {name: getattr(self, name) for name in OPS[self.op_type].input_names}


def expected(example: Example) -> list[list[int]]:
    """Kept ids of each image, told by the reference."""
    p = example.parameters
    of_one: Callable[[Tensor, Tensor], Tensor] = {
        "MaxMinPrune": lambda features, scores: max_min.reference(features, p),
        "DppPrune": lambda features, scores: dpp.reference(features, scores, p),
        "DeduplicatePrune": lambda features, scores: deduplicate.reference(features, scores, p),
        "DartPrune": lambda features, scores: dart.reference(features, p),
        "ElbowPrune": lambda features, scores: elbow.reference(scores, p),
        "ElbowPrunePadded": lambda features, scores: elbow.reference(scores, p),
    }[example.op_type]
    images = zip(example.features, mean_over_heads(example.importance), strict=True)
    return [of_one(features, scores).tolist() for features, scores in images]


def exact(rng: Generator, op_type: str, dtype: torch.dtype = torch.float32) -> Example:
    """Any number of ties; zero vectors, NaN, infinities, in features and in importance."""
    batch, tokens = _sizes(rng, op_type)
    # Cosines are multiples of 1/16; DPP divides by roots of them, so it gets 0 and 1 alone.
    channels = int(rng.choice([1, 4, 16]))
    if op_type == "DppPrune" or rng.random() < 0.5:
        directions = np.eye(8, dtype=np.float32)[rng.integers(0, 8, (batch, tokens))]
    else:
        directions = rng.choice(np.array([-1, 1], np.float32), (batch, tokens, channels))
    lengths = rng.choice(np.array([0, 0.5, 1, 1, 4], np.float32), (batch, tokens, 1))
    features = directions * lengths
    unusual = rng.random((batch, tokens)) < rng.choice([0, 0.2])
    values = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)
    features[unusual, 0] = rng.choice(values, int(unusual.sum()))
    return Example(
        op_type,
        torch.from_numpy(features).to(dtype),
        torch.from_numpy(_scores(rng, batch, tokens)),
        random_parameters(rng, op_type, tokens),
    )


def steady(rng: Generator, op_type: str, dtype: torch.dtype = torch.float32) -> Example:
    """Normal features and scores without ties; where sums are rounded, until noise is no matter."""
    while True:
        batch, tokens = _sizes(rng, op_type)
        features = rng.standard_normal((batch, tokens, int(rng.choice([3, 8, 33]))))
        steps = np.stack([rng.permutation(4096)[:tokens] for _ in range(batch)])
        example = Example(
            op_type,
            torch.from_numpy(features.astype(np.float32)).to(dtype),
            torch.from_numpy((steps / 4096).astype(np.float32)),
            random_parameters(rng, op_type, tokens),
        )
        if op_type not in ROUNDED:
            return example
        answer = expected(example)
        if all(expected(_noisy(rng, example)) == answer for _ in range(NOISY_COPIES)):
            return example


def random_parameters(rng: Generator, op_type: str, tokens: int) -> Any:
    """Attributes of any kind; about as often a share as a count, which may exceed the tokens."""
    make = OPS[op_type].parameters
    if op_type in ELBOWS:
        least = int(rng.integers(1, tokens + 3)) if rng.random() < 0.5 else 1
        limited = op_type == "ElbowPrunePadded" or rng.random() < 0.5
        limits = {"max_keep": least + int(rng.integers(0, tokens + 3))} if limited else {}
        return make(min_keep=least, elbow=int(rng.integers(3)), **limits)
    count = {"keep": int(rng.integers(1, tokens + 3))}
    share = {"keep_permille": int(rng.integers(1, 1001))}
    others: dict[str, Any] = {
        "DeduplicatePrune": {"important_ratio": float(rng.choice([0, 0.3, 0.5, 1]))},
        "DartPrune": {"pivots": int(rng.choice([1, 2, 8, 1024]))},
    }.get(op_type, {})
    return make(**(count if rng.random() < 0.7 else share), **others)


def _sizes(rng: Generator, op_type: str) -> tuple[int, int]:
    batch = 1 if op_type in ELBOWS else int(rng.integers(1, 4))
    return batch, int(rng.choice([1, 2, 3, int(rng.integers(4, 60))]))


def _scores(rng: Generator, batch: int, tokens: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Multiples of 2^-12 below 1: their sum over heads is the same in any order."""
    heads: tuple[int, ...] = ((), (1,), (5,))[int(rng.integers(3))]
    shape = (batch, *heads, tokens)
    scores = (rng.integers(0, rng.choice([1, 3, 4096]), shape) / 4096).astype(np.float32)
    unusual = rng.random(shape) < rng.choice([0, 0.3])
    values = [np.nan, np.inf, -np.inf, -0.0] + [3e38, -3e38, 1e-45] * (heads != (5,))
    scores[unusual] = rng.choice(np.array(values, np.float32), int(unusual.sum()))
    return scores


def _noisy(rng: Generator, example: Example) -> Example:
    wide = example.features.float()
    noise = torch.from_numpy(rng.standard_normal(wide.shape).astype(np.float32))
    features = wide * (1 + NOISE * noise)
    return Example(example.op_type, features, example.importance, example.parameters)
