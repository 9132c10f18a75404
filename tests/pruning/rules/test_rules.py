"""What every rule of the table promises: shapes, budgets, batches, and errors by name."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.pruning.parameters import OP_TYPE, Budget
from d2export.pruning.rules import RULES
from tests.rule_cases import choose, features_of_any_kind, normal, scores_of_any_kind

COUNTED = ["MaxMinPrune", "DppPrune", "DeduplicatePrune", "DartPrune"]
SCORED = ["DppPrune", "DeduplicatePrune", "ElbowPrune"]
counted = pytest.mark.parametrize("op_type", COUNTED)
scored = pytest.mark.parametrize("op_type", SCORED)
every_rule = pytest.mark.parametrize("op_type", [*COUNTED, "ElbowPrune"])
any_counted = st.sampled_from(COUNTED)


def limits(op_type: str, count: int) -> dict[str, int]:
    """Attributes by which so many tokens stay."""
    return {"keep": count} if op_type in COUNTED else {"min_keep": count, "max_keep": count}


def test_the_table_says_what_each_op_reads() -> None:
    assert list(RULES) == [OP_TYPE, *COUNTED, "ElbowPrune"]
    assert [name for name, rule in RULES.items() if rule.counted] == [OP_TYPE, *COUNTED]
    assert [name for name, rule in RULES.items() if rule.inputs == ("importance",)] == SCORED
    assert [name for name, rule in RULES.items() if not rule.inputs] == ["MaxMinPrune", "DartPrune"]
    assert RULES[OP_TYPE].inputs == ("importance", "prior", "grid")


@every_rule
def test_attributes_are_numbers_with_the_defaults_of_the_dataclass(op_type: str) -> None:
    parameters = RULES[op_type].parameters(**limits(op_type, 3))
    attributes = parameters.attributes()
    assert list(attributes) == [field.name for field in fields(parameters)]
    assert all(value == getattr(parameters, name) for name, value in attributes.items())
    assert {type(value) for value in attributes.values()} <= {int, float}
    assert isinstance(parameters, Budget) == (op_type in COUNTED)


# --- Budgets ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    op_type=any_counted,
    tokens=st.integers(0, 12),
    batch=st.integers(1, 2),
    budget=st.one_of(
        st.fixed_dictionaries({"keep": st.integers(1, 14)}),
        st.fixed_dictionaries({"keep_permille": st.integers(1, 1000)}),
    ),
)
def test_the_budget_is_met_exactly_and_indices_ascend(
    data: st.DataObject, op_type: str, tokens: int, batch: int, budget: dict[str, int]
) -> None:
    features = data.draw(features_of_any_kind(tokens, batch))
    importance = data.draw(scores_of_any_kind(tokens, batch))
    indices = choose(op_type, features, importance, **budget)
    share = max(1, tokens * budget.get("keep_permille", 0) // 1000)
    assert indices.dtype == torch.int32
    assert indices.shape == (batch, min(budget.get("keep", share), tokens))
    assert all(0 <= token < tokens for token in indices.flatten().tolist())
    assert all(a < b for row in indices.tolist() for a, b in pairwise(row))
    assert choose(op_type, features, importance, **budget).equal(indices)  # deterministic


@every_rule
@pytest.mark.parametrize("count", [5, 6, 1000])
def test_as_many_as_there_are_keep_their_order(op_type: str, count: int) -> None:
    nan = torch.full((1, 5), float("nan"))
    indices = choose(op_type, nan[..., None], nan, **limits(op_type, count))
    assert indices.tolist() == [[0, 1, 2, 3, 4]]
    assert indices.dtype == torch.int32


@every_rule
def test_one_token_stays(op_type: str) -> None:
    for value in (0.0, 2.0, float("nan"), float("-inf")):
        one = torch.full((1, 1), value)
        assert choose(op_type, one[..., None], one, **limits(op_type, 1)).tolist() == [[0]]


@every_rule
def test_no_tokens_is_no_error(op_type: str) -> None:
    for importance in (torch.zeros(1, 0), torch.zeros(1, 4, 0)):
        indices = choose(op_type, torch.zeros(1, 0, 8), importance, **limits(op_type, 3))
        assert indices.shape == (1, 0)
        assert indices.dtype == torch.int32


@counted
def test_no_images_is_no_error(op_type: str) -> None:
    for tokens, kept in ((5, 3), (2, 2)):
        indices = choose(op_type, torch.zeros(0, tokens, 8), torch.zeros(0, tokens), keep=3)
        assert indices.shape == (0, kept)
        assert indices.dtype == torch.int32


# --- Batches, heads, dtypes ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data(), op_type=any_counted, tokens=st.integers(1, 12), count=st.integers(1, 12))
def test_images_of_a_batch_do_not_see_each_other(
    data: st.DataObject, op_type: str, tokens: int, count: int
) -> None:
    features = data.draw(features_of_any_kind(tokens, batch=3))
    importance = data.draw(scores_of_any_kind(tokens, batch=3))
    together = choose(op_type, features, importance, keep=count)
    for image in range(3):
        one = slice(image, image + 1)
        assert choose(op_type, features[one], importance[one], keep=count).equal(together[one])


@scored
def test_importance_is_the_mean_over_heads(op_type: str) -> None:
    # Means 3, 4, 1, 2: neither head alone ranks the tokens so.
    per_head = torch.tensor([[[6.0, 0, 2, 1], [0, 8, 0, 3]]])
    features = normal(1, 1, 4, 6)
    for count in (1, 2, 3):
        of_heads, *of_each = (
            choose(op_type, features, scores, **limits(op_type, count)).tolist()
            for scores in (per_head, per_head.mean(dim=1), per_head[:, 0], per_head[:, 1])
        )
        assert of_heads == of_each[0]
        if count == 1:
            assert of_heads != of_each[1]


@counted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_features_are_compared_in_float32(op_type: str, dtype: torch.dtype) -> None:
    features, importance = normal(2, 2, 40, 16).to(dtype), normal(3, 2, 40)
    halves = choose(op_type, features, importance, keep=17)
    assert halves.equal(choose(op_type, features.float(), importance, keep=17))


@every_rule
def test_inputs_are_left_alone_and_may_be_strided(op_type: str) -> None:
    features, importance = normal(4, 1, 12, 6), normal(5, 1, 2, 12)
    before = features.clone(), importance.clone()
    indices = choose(op_type, features, importance, **limits(op_type, 5))
    strided = [t.repeat_interleave(2, dim=-1)[..., ::2] for t in before]
    assert choose(op_type, *strided, **limits(op_type, 5)).equal(indices)
    assert features.equal(before[0])
    assert importance.equal(before[1])


# --- Arguments that do not fit ------------------------------------------------------------------

FITTING = {"features": torch.zeros(1, 5, 3), "importance": torch.zeros(1, 5)}


@every_rule
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(5, 3), "features has shape [5, 3], expected [B, N, C]"),
        (torch.zeros(1, 1, 5, 3), "features has shape [1, 1, 5, 3], expected [B, N, C]"),
        (
            torch.zeros(1, 5, 3, dtype=torch.float64),
            "features is torch.float64, expected float32, float16 or bfloat16",
        ),
        (
            torch.zeros(1, 5, 3, dtype=torch.int32),
            "features is torch.int32, expected float32, float16 or bfloat16",
        ),
    ],
    ids=["rank 2", "rank 4", "float64", "int32"],
)
@pytest.mark.parametrize("count", [2, 9], ids=["some", "all"])
def test_features_that_do_not_fit_are_named(
    op_type: str, value: Tensor, message: str, count: int
) -> None:
    assert error(op_type, count, features=value) == message


@scored
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(5), "importance has shape [5], expected [1, 5] or [1, H, 5]"),
        (torch.zeros(1, 6), "importance has shape [1, 6], expected [1, 5] or [1, H, 5]"),
        (torch.zeros(2, 5), "importance has shape [2, 5], expected [1, 5] or [1, H, 5]"),
        (torch.zeros(1, 5, 4), "importance has shape [1, 5, 4], expected [1, 5] or [1, H, 5]"),
        (
            torch.zeros(1, 1, 4, 5),
            "importance has shape [1, 1, 4, 5], expected [1, 5] or [1, H, 5]",
        ),
        (torch.zeros(1, 0, 5), "importance has 0 heads, expected at least 1"),
        (torch.zeros(1, 5, dtype=torch.float16), "importance is torch.float16, expected float32"),
        (torch.zeros(1, 5, dtype=torch.int64), "importance is torch.int64, expected float32"),
    ],
    ids=["rank 1", "length", "batch", "heads last", "rank 4", "no heads", "float16", "int64"],
)
@pytest.mark.parametrize("count", [2, 9], ids=["some", "all"])
def test_importance_that_does_not_fit_is_named(
    op_type: str, value: Tensor, message: str, count: int
) -> None:
    assert error(op_type, count, importance=value) == message


def test_where_each_image_has_its_own_number_there_is_one_image() -> None:
    message = "features has 2 images: how many stay differs, expected 1"
    two = {"features": torch.zeros(2, 5, 3), "importance": torch.zeros(2, 5)}
    assert error("ElbowPrune", 2, **two) == message


def error(op_type: str, count: int, **arguments: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        choose(op_type, **(FITTING | arguments), **limits(op_type, count))
    return str(caught.value)
