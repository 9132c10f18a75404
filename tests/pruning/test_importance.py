"""Importance that the visual tokens themselves tell, and attention that is read ahead."""

from __future__ import annotations

import pytest
import torch

from d2export.pruning.importance import smoothed, text_relevance, uniform

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


def test_neighbours_get_a_share_of_importance() -> None:
    # One tile of 3 x 3, all attention in its middle: half of it sideways, then half up and down.
    row = torch.tensor([[[0.0, 0, 0, 0, 8, 0, 0, 0, 0]]])
    found = smoothed([row], 3, 0.5)
    assert found.tolist() == [[0.25, 0.5, 0.25, 0.5, 1, 0.5, 0.25, 0.5, 0.25]]


def test_nothing_crosses_the_edge_of_a_tile() -> None:
    # Two tiles of 2 x 2, all attention in the last token of the first.
    row = torch.tensor([[[0.0, 0, 0, 4, 0, 0, 0, 0]]])
    assert smoothed([row], 2, 0.5).tolist() == [[0.25, 0.5, 0.5, 1, 0, 0, 0, 0]]


def test_rows_count_alike_however_much_of_them_is_for_the_picture() -> None:
    # Heads are averaged, then each row is divided by its sum: 3 : 1 and 0 : 1.
    below, ahead = torch.tensor([[[2.0, 0], [4, 2]]]), torch.tensor([[[0.0, 0.001]]])
    assert smoothed([below, ahead], 1, 0.0).tolist() == [[0.375, 0.625]]
    assert smoothed([below], 1, 0.6).tolist() == [[0.75, 0.25]]  # tiles of one token


def test_a_row_without_attention_to_the_picture_says_nothing() -> None:
    nothing, row = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 3]]])
    assert smoothed([nothing, row], 1, 0.0).tolist() == [[0.125, 0.375]]
    assert smoothed([nothing], 1, 0.0).tolist() == [[0, 0]]
    assert smoothed([nothing[:, :, :0]], 1, 0.6).shape == (1, 0)


def test_attention_too_small_to_invert() -> None:
    row = torch.tensor([[[1e-40, 0.0, 0, 0]]])
    assert smoothed([row], 2, 0.5).tolist() == [[1, 0.5, 0.5, 0.25]]


def test_neighbours_need_to_know_the_tile() -> None:
    with pytest.raises(ValueError, match="side is 0, expected the tokens along"):
        smoothed([torch.ones(1, 1, 4)], 0, 0.5)
