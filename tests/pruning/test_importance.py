"""Importance that the visual tokens themselves tell."""

from __future__ import annotations

import pytest
import torch

from d2export.pruning.importance import text_relevance, uniform

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def test_relevance_is_the_mean_cosine_with_the_prompt() -> None:
    features = torch.tensor([[[3.0, 0], [0, 5], [-1, 0], [0, 0]]])
    prompt = torch.tensor([[1.0, 0], [0, 2]])
    # Cosines 1 and 0, 0 and 1, -1 and 0, 0 and 0; then (1 + mean) / 2.
    assert text_relevance(features, prompt).tolist() == [[0.75, 0.75, 0.25, 0.5]]


def test_relevance_lies_between_0_and_1() -> None:
    features = torch.tensor([[[2.0, 0], [-2, 0]], [[0, 2], [4, 0]]])
    assert text_relevance(features, torch.tensor([[1.0, 0]])).tolist() == [[1, 0], [0.5, 1]]


def test_the_mean_is_of_cosines_not_of_embeddings() -> None:
    # The long embedding counts no more than the short one.
    features = torch.tensor([[[1.0, 0], [0, 1]]])
    prompt = torch.tensor([[100.0, 0], [0, 1]])
    assert text_relevance(features, prompt).tolist() == [[0.75, 0.75]]


def test_prompt_embeddings_of_zero_count_as_unlike_anything() -> None:
    # Cosines 1 and 0: padding in a prompt dilutes, it does not break.
    features, prompt = torch.tensor([[[1.0, 0]]]), torch.tensor([[1.0, 0], [0, 0]])
    assert text_relevance(features, prompt).tolist() == [[0.75]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_relevance_is_float32_and_computed_in_it(dtype: torch.dtype) -> None:
    # 300 * 300 is beyond float16.
    features = torch.tensor([[[300.0, 0], [0, 300]]], dtype=dtype)
    relevance = text_relevance(features, torch.tensor([[300.0, 0]], dtype=dtype))
    assert relevance.dtype == torch.float32
    torch.testing.assert_close(relevance, torch.tensor([[1.0, 0.5]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [2, 7, 896])
def test_relevance_leaves_0_to_1_by_rounding_only(width: int) -> None:
    features = torch.randn(1, 50, width, generator=torch.Generator().manual_seed(width))
    for token in features[0]:
        for prompt in (token[None], -token[None]):
            relevance = text_relevance(features, prompt)
            assert relevance.min() >= -1e-6
            assert relevance.max() <= 1 + 1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_uniform_is_ones(dtype: torch.dtype) -> None:
    ones = uniform(torch.full((2, 3, 5), float("nan"), dtype=dtype))
    assert ones.dtype == torch.float32
    assert ones.tolist() == [[1, 1, 1], [1, 1, 1]]
