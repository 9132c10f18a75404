"""The CUDA kernels of the rules besides D2Prune, run on the host, keep what the references keep.

Cosines are exact, so every input has one answer; only DppPrune needs gains that differ.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.pruning.rule_parameters import (
    DeduplicateParameters,
    DppParameters,
    MaxMinParameters,
)
from tests.plugins.drivers import ORDERS, Drivers
from tests.plugins.rule_phases import DTYPES, FUNCTIONS, run_phases, run_reference
from tests.rule_cases import features_of_any_kind, normal, scores_of_any_kind

PARAMETERS: dict[str, Any] = {
    "MaxMinPrune": MaxMinParameters,
    "DppPrune": DppParameters,
    "DeduplicatePrune": DeduplicateParameters,
}
RATIOS = (0.0, 0.3, 0.5, 1.0)
INF, NAN = float("inf"), float("nan")

generated = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def check(
    drivers: Drivers,
    op_type: str,
    features: Tensor,
    importance: Tensor | None,
    parameters: Any,
    turn: int = 0,
) -> None:
    """The phases keep what the reference keeps, and copy its rows bit for bit."""
    wanted = run_reference(op_type, features, importance, parameters)
    blocks, order = 1 + turn % 5, ORDERS[turn % len(ORDERS)]
    kept, indices = run_phases(drivers, op_type, features, importance, parameters, blocks, order)
    assert indices.tolist() == wanted.tolist(), parameters
    rows = wanted.long().unsqueeze(-1).expand(-1, -1, features.shape[2])
    assert kept.view(torch.uint8).equal(features.gather(1, rows).view(torch.uint8))


def scores_for(op_type: str, importance: Tensor) -> Tensor | None:
    """The importance, where the op has that input."""
    return None if op_type == "MaxMinPrune" else importance


def attributes(op_type: str, keep: int, ratio: float) -> Any:
    """Parameters of the op; the ratio is that of DeduplicatePrune."""
    more = {"important_ratio": ratio} if op_type == "DeduplicatePrune" else {}
    return PARAMETERS[op_type](keep=keep, **more)


@pytest.mark.parametrize("op_type", FUNCTIONS)
@pytest.mark.parametrize("turn", range(15))
def test_on_random_tokens(drivers: Drivers, op_type: str, turn: int) -> None:
    """Of one tile and of several, of one square of pairs and of several."""
    batch, tokens, channels = ((1, 40, 33), (2, 70, 8), (3, 130, 130), (1, 300, 24), (2, 9, 1032))[
        turn % 5
    ]
    features = normal(turn, batch, tokens, channels).to(DTYPES[turn % 3])
    importance = normal(turn + 100, batch, 1 + turn % 3, tokens)
    keep = (tokens * (turn % 7 + 1)) // 9 + 1
    check(
        drivers,
        op_type,
        features,
        scores_for(op_type, importance),
        attributes(op_type, keep, RATIOS[turn % 4]),
        turn,
    )


@pytest.mark.parametrize("op_type", ["MaxMinPrune", "DeduplicatePrune"])
@generated
@given(data=st.data())
def test_on_tokens_of_any_kind(drivers: Drivers, op_type: str, data: st.DataObject) -> None:
    """Zero vectors, equal and opposite ones, NaN, Inf, the huge; ties everywhere."""
    tokens, batch = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 3))
    features = data.draw(features_of_any_kind(tokens, batch))
    importance = data.draw(scores_of_any_kind(tokens, batch))
    keep = data.draw(st.integers(1, tokens + 2))
    parameters = attributes(op_type, keep, data.draw(st.sampled_from(RATIOS)))
    turn = data.draw(st.integers(0, 14))
    check(drivers, op_type, features, scores_for(op_type, importance), parameters, turn)


@generated
@given(data=st.data())
def test_dpp_on_tokens_at_right_angles(drivers: Drivers, data: st.DataObject) -> None:
    """Copies of a few, and such without direction: gains are exact, and soon nothing is left."""
    tokens, batch = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 3))
    kinds = st.lists(st.integers(0, 7), min_size=tokens, max_size=tokens)
    pictures = [data.draw(kinds) for _ in range(batch)]
    basis = torch.cat([torch.eye(5), torch.tensor([[0.0] * 5, [NAN] * 5, [INF] * 5])])
    importance = data.draw(scores_of_any_kind(tokens, batch))
    parameters = DppParameters(keep=data.draw(st.integers(1, tokens + 2)))
    turn = data.draw(st.integers(0, 14))
    check(drivers, "DppPrune", basis[torch.tensor(pictures)], importance, parameters, turn)


@generated
@given(data=st.data())
def test_dpp_weighs_scores_of_any_kind(drivers: Drivers, data: st.DataObject) -> None:
    """Random directions: no gains are equal but those that are exactly so."""
    tokens = data.draw(st.integers(2, 20))
    features = normal(data.draw(st.integers(0, 99)), 1, tokens, 4)
    importance = data.draw(scores_of_any_kind(tokens))
    parameters = DppParameters(keep=data.draw(st.integers(1, tokens)))
    check(drivers, "DppPrune", features, importance, parameters, data.draw(st.integers(0, 14)))


@pytest.mark.parametrize(
    "scores", [[NAN, -INF, NAN], [NAN, INF, NAN], [-INF, INF, NAN], [NAN, 3e38, -3e38], [NAN] * 3]
)
def test_dpp_where_few_scores_are_finite(drivers: Drivers, scores: list[float]) -> None:
    """An infinity alone is the best there is; NaN comes last."""
    importance = torch.tensor([scores])
    check(drivers, "DppPrune", torch.eye(3)[None], importance, DppParameters(keep=1))


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float32, 1e19),  # whose squares float32 cannot add up
        (torch.bfloat16, 1e19),
        (torch.float32, 2.0**-70),  # squares are denormal in float32
        (torch.bfloat16, 2.0**-70),
        (torch.float32, 2.0**-130),  # lengths are denormal: no direction
        (torch.float16, 2.0**-24),  # elements are denormal
    ],
)
@pytest.mark.parametrize("op_type", FUNCTIONS)
def test_at_the_ends_of_the_number_range(
    drivers: Drivers, op_type: str, dtype: torch.dtype, size: float
) -> None:
    """Lengths are sums in float64: the size of features does not matter."""
    features = (normal(3, 1, 60, 16).mul(64).round() * size).to(dtype)
    importance = normal(4, 1, 60)
    check(
        drivers, op_type, features, scores_for(op_type, importance), attributes(op_type, 20, 0.3), 4
    )


@pytest.mark.parametrize("op_type", FUNCTIONS)
@pytest.mark.parametrize("keep", [1, 2, 39, 40, 41])
def test_every_budget_and_more_pictures_than_blocks(
    drivers: Drivers, op_type: str, keep: int
) -> None:
    features, importance = normal(5, 7, 40, 24), normal(6, 7, 40)
    parameters = attributes(op_type, keep, 0.5)
    for turn in range(4):
        check(drivers, op_type, features, scores_for(op_type, importance), parameters, turn)


@pytest.mark.parametrize("op_type", FUNCTIONS)
def test_no_channels(drivers: Drivers, op_type: str) -> None:
    """Without a direction: MaxMinPrune keeps the first, the others the most important."""
    features, importance = torch.zeros(1, 40, 0), normal(7, 1, 40)
    parameters = attributes(op_type, 12, 0.5)
    check(drivers, op_type, features, scores_for(op_type, importance), parameters, turn=1)


@pytest.mark.parametrize("op_type", FUNCTIONS)
def test_any_number_of_blocks_in_any_order_of_threads(drivers: Drivers, op_type: str) -> None:
    features, importance = normal(8, 2, 90, 24), normal(9, 2, 2, 90)
    parameters, scores = attributes(op_type, 31, 0.3), scores_for(op_type, importance)
    answers = [
        run_phases(drivers, op_type, features, scores, parameters, blocks, order)[1].tolist()
        for blocks in (1, 2, 3, 7, 24)
        for order in ORDERS
    ]
    assert answers == [answers[0]] * len(answers)
