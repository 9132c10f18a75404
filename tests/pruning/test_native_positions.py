"""`D2PrunePositions` in the native core's Python module: what it answers, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import astuple
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters
from tests.prompt_cases import expected, large_prompt, small_prompt
from tests.selection_cases import Array

pytestmark = pytest.mark.skipif(
    not native.available(), reason="no native core: `d2export doctor` says why"
)


@pytest.mark.parametrize("seed", [1, 4])
def test_arrays_and_tensors_of_every_type(seed: int) -> None:
    prompt, parameters = large_prompt(np.random.default_rng(seed))
    wanted = expected(prompt, parameters)
    states, *beside = astuple(prompt)
    tensors = [torch.from_numpy(array) for array in beside]
    for narrow in (states, states.astype(np.float16), states.astype(ml_dtypes.bfloat16)):
        answer = native.select_positions(narrow, *beside, parameters)
        assert answer.dtype == np.int32
        assert answer.tolist() == wanted
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tensor = torch.from_numpy(states).to(dtype)
        assert native.select_positions(tensor, *tensors, parameters).tolist() == wanted
    columns = np.asfortranarray(states)
    assert native.select_positions(columns, *beside, parameters).tolist() == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden_states": np.ones((2, 5, 4), np.float32)},
            "hidden_states has shape [2, 5, 4], expected [1, T, C]",
        ),
        ({"importance": np.ones((1, 4), np.float32)}, "importance has shape [1, 4], expected [1,"),
        ({"prior": np.ones(2, np.float32)}, "prior has shape [2], expected [3]"),
        ({"grid": np.ones((3, 3), np.float32)}, "grid has shape [3, 3], expected [3, 2]"),
        ({"visual_positions": np.ones((1, 3), np.int64)}, "visual_positions has shape [1, 3]"),
        ({"visual_positions": np.ones(3, np.int32)}, "visual_positions is int32, expected int64"),
        (
            {"visual_positions": np.array([1, 3, 2])},
            "visual_positions is not ascending within 0 to 4",
        ),
        (
            {"visual_positions": np.array([1, 2, 5])},
            "visual_positions is not ascending within 0 to 4",
        ),
        (
            {"visual_positions": np.array([-1, 2, 3])},
            "visual_positions is not ascending within 0 to 4",
        ),
        (
            {"image_lengths": np.array([1, 1])},
            "image_lengths is [1, 1], expected lengths that add up to 3",
        ),
        (
            {"image_lengths": np.array([4, -1])},
            "image_lengths is [4, -1], expected lengths that add up to 3",
        ),
        (
            {"image_lengths": np.array([2**62, 2**62])},
            "expected lengths that add up to 3",
        ),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Array], message: str) -> None:
    arguments: dict[str, Any] = {**vars(small_prompt(3)), **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        native.select_positions(**arguments, parameters=PruneParameters(keep=1))
