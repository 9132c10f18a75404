"""The rules as native code keep what their torch references keep, whatever the input.

Cosines are exact, so that every input has one answer; only DppPrune, whose volumes are float64,
needs gains that are equal without rounding, or differ.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from d2export.errors import EnvironmentMismatch
from d2export.pruning import native
from d2export.pruning.rule_parameters import DeduplicateParameters, DppParameters, MaxMinParameters
from d2export.pruning.rules import RULES
from tests.rule_cases import features_of_any_kind, normal, scores_of_any_kind

NATIVE = ("MaxMinPrune", "DppPrune", "DeduplicatePrune")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FITTING = torch.zeros(2, 5, 3), torch.zeros(2, 5)

needs_native = pytest.mark.skipif(
    not native.available(), reason="no native core: `d2export doctor` says why"
)
generated = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def keeps(op_type: str, using: Any, features: Tensor, importance: Tensor, parameters: Any) -> Any:
    """`[B, M]` as lists."""
    rule = RULES[op_type]
    inputs = [importance] if rule.inputs else []
    indices = rule.select(features, *inputs, parameters, using=using)
    assert indices.dtype == torch.int32
    return indices.tolist()


def check(op_type: str, features: Tensor, importance: Tensor, parameters: Any) -> None:
    arguments = features, importance, parameters
    assert keeps(op_type, "native", *arguments) == keeps(op_type, "torch", *arguments), parameters


def parameters_of(op_type: str, ratio: float = 0.5, **budget: int) -> Any:
    """Parameters of the op; the ratio is that of DeduplicatePrune."""
    more = {"important_ratio": ratio} if op_type == "DeduplicatePrune" else {}
    return RULES[op_type].parameters(**budget, **more)


@needs_native
@pytest.mark.parametrize("op_type", NATIVE)
@pytest.mark.parametrize(
    ("batch", "tokens", "channels"),
    [(1, 40, 33), (2, 70, 8), (3, 97, 130), (1, 300, 24), (2, 9, 1032), (1, 2, 1)],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_random_tokens(
    op_type: str, batch: int, tokens: int, channels: int, dtype: torch.dtype
) -> None:
    for turn in range(4):
        features = normal(turn, batch, tokens, channels).to(dtype)
        importance = normal(turn + 100, batch, 1 + turn % 3, tokens)
        for permille in (1, 111, 500):
            ratio = (0.0, 0.3, 0.5, 1.0)[turn % 4]
            check(
                op_type, features, importance, parameters_of(op_type, ratio, keep_permille=permille)
            )


@needs_native
@pytest.mark.parametrize(
    ("op_type", "keep"), [("MaxMinPrune", 64), ("DppPrune", 64), ("DeduplicatePrune", 3200)]
)
def test_on_as_many_tokens_as_an_image_of_thirteen_tiles_has(op_type: str, keep: int) -> None:
    features, importance = normal(0, 1, 3328, 96), normal(1, 1, 3328)
    check(op_type, features, importance, parameters_of(op_type, keep=keep))


@needs_native
@pytest.mark.parametrize("op_type", NATIVE)
def test_on_tokens_that_resemble_their_neighbours(op_type: str) -> None:
    """As in images: a walk, so that each token is like those before it, some of them equal."""
    steps = normal(2, 600, 48) * torch.rand(600, 1, generator=torch.Generator().manual_seed(3))
    walk = (0.3 * steps).cumsum(dim=0)
    walk[100:160] = walk[100]
    importance = normal(4, 1, 2, 600)
    for keep in (1, 20, 200, 580):
        check(op_type, walk.unsqueeze(0), importance, parameters_of(op_type, keep=keep))


@needs_native
@pytest.mark.parametrize("op_type", ["MaxMinPrune", "DeduplicatePrune"])
@generated
@given(data=st.data())
def test_on_degenerate_tokens(op_type: str, data: st.DataObject) -> None:
    tokens, batch = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 2))
    features = data.draw(features_of_any_kind(tokens, batch)).to(data.draw(st.sampled_from(DTYPES)))
    importance = data.draw(scores_of_any_kind(tokens, batch))
    keep, ratio = data.draw(st.integers(1, tokens)), data.draw(st.sampled_from((0.0, 0.4, 1.0)))
    check(op_type, features, importance, parameters_of(op_type, ratio, keep=keep))


@needs_native
@generated
@given(data=st.data())
def test_a_volume_of_tokens_at_right_angles(data: st.DataObject) -> None:
    """Nothing is rounded: equal tokens, opposite ones, without direction; scores of any kind."""
    tokens = data.draw(st.integers(1, 40))
    axes = data.draw(st.lists(st.integers(0, 9), min_size=tokens, max_size=tokens))
    lengths = data.draw(
        st.lists(
            st.sampled_from((1.0, -1.0, 4.0, 0.0, float("inf"), float("nan"))),
            min_size=tokens,
            max_size=tokens,
        )
    )
    features = torch.eye(10)[axes]
    features[range(tokens), axes] = torch.tensor(lengths)
    importance = data.draw(scores_of_any_kind(tokens))
    keep = data.draw(st.integers(1, tokens))
    check("DppPrune", features.unsqueeze(0), importance, DppParameters(keep=keep))


@needs_native
@pytest.mark.parametrize("op_type", NATIVE)
@pytest.mark.parametrize(("batch", "tokens", "channels"), [(2, 0, 5), (0, 7, 5), (2, 7, 0)])
def test_no_images_tokens_or_channels(op_type: str, batch: int, tokens: int, channels: int) -> None:
    features, importance = torch.ones(batch, tokens, channels), torch.ones(batch, tokens)
    parameters = parameters_of(op_type, keep=3)
    check(op_type, features, importance, parameters)
    rule = RULES[op_type]
    inputs = [importance] if rule.inputs else []
    for using in ("native", "torch"):
        indices = rule.select(features, *inputs, parameters, using=using)
        assert indices.shape == (batch, parameters.kept(tokens))


@needs_native
@pytest.mark.parametrize(
    ("importance", "message"),
    [
        (torch.zeros(2, 4), r"importance has shape \[2, 4\], expected \[2, 5\] or \[2, H, 5\]"),
        (torch.zeros(2, 0, 5), "importance has 0 heads, expected at least 1"),
        (torch.zeros(2, 5).double(), "importance is float64, expected float32"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(importance: Tensor, message: str) -> None:
    for select, parameters in (
        (native.select_dpp, DppParameters(keep=2)),
        (native.select_deduplicate, DeduplicateParameters(keep=2)),
    ):
        with pytest.raises(ValueError, match=message):
            select(FITTING[0], importance, parameters)
    with pytest.raises(ValueError, match=r"features has shape \[5, 3\], expected \[B, N, C\]"):
        native.select_max_min(FITTING[0][0], MaxMinParameters(keep=2))


def test_without_the_native_core_torch_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    for op_type in NATIVE:
        arguments = *FITTING, parameters_of(op_type, keep=2)
        assert keeps(op_type, None, *arguments) == keeps(op_type, "torch", *arguments)
        with pytest.raises(EnvironmentMismatch, match="has no native core"):
            keeps(op_type, "native", *arguments)


def test_the_table_says_what_has_native_code() -> None:
    assert {name for name, rule in RULES.items() if rule.native} == {"D2Prune", *NATIVE}
