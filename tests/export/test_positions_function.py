"""`D2PrunePositions` as standard ONNX operators, in torch, and told one token after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
import torch

from d2export.engine import custom_op
from d2export.export.torch_op import prune_positions
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.sequence import surviving_positions
from tests.prompt_cases import Prompt, expected, random_prompt, small_prompt
from tests.prompt_model import model_of
from tests.selection_cases import FLAVOURS, Array

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

PROMPTS = 12  # of each flavour


def runner(
    parameters: PruneParameters, opset: int, heads: bool, native: bool
) -> Callable[[Prompt], list[int]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if native:
        custom_op.register(options, "cpu")
    session = onnxruntime.InferenceSession(
        model_of(parameters, opset, heads).SerializeToString(), options
    )

    def run(prompt: Prompt) -> list[int]:
        (positions,) = session.run(None, vars(prompt))
        assert positions.dtype == np.int32
        return [int(position) for position in positions]

    return run


def in_torch(prompt: Prompt, parameters: PruneParameters) -> list[int]:
    """By torch alone, and by the torch op: natively where that was built."""
    tensors = [torch.from_numpy(array) for array in astuple(prompt)]
    answer = surviving_positions(*tensors, parameters, "torch")
    assert answer.equal(prune_positions(*tensors, parameters))
    return [int(position) for position in answer]


@pytest.mark.parametrize("native", [False, True], ids=["function", "native"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_equals_torch_and_the_reference(flavour: str, native: bool) -> None:
    if native and custom_op.library("cpu") is None:
        pytest.skip("this installation has no custom op for ONNX Runtime")
    rng = np.random.default_rng([7, *flavour.encode()])
    for number in range(PROMPTS):
        prompt, parameters = random_prompt(rng, flavour)
        wanted = expected(prompt, parameters)
        count = parameters.kept_of(len(prompt.image_lengths), len(prompt.grid))
        text = prompt.hidden_states.shape[1] - len(prompt.grid)
        assert len(wanted) == text + count
        assert in_torch(prompt, parameters) == wanted, parameters
        run = runner(parameters, 17 + number % 8, prompt.importance.ndim == 3, native)
        assert run(prompt) == wanted, parameters


@pytest.mark.parametrize(
    ("lengths", "keep", "kept"),
    [
        ((), 2, [0]),  # no image
        ((4,), 4, [0, 1, 2, 3, 4, 5]),
        ((4,), 2, [0, 1, 2, 5]),
        ((3, 3), 2, [0, 1, 2, 4, 5, 6, 8]),  # two of each
        ((1, 5), 3, [0, 1, 2, 3, 4, 5, 6, 7, 8]),  # the first has one, the other gets five
        ((5, 1), 2, [0, 1, 2, 3, 6, 7, 8]),  # one left over: the best of what was cut
    ],
)
def test_budgets(lengths: tuple[int, ...], keep: int, kept: list[int]) -> None:
    check_everywhere(lengths, PruneParameters(keep=keep, pivot_ratio=1.0), kept)


@pytest.mark.parametrize(
    ("lengths", "permille", "kept"),
    [
        ((4, 4), 250, [0, 1, 5, 6, 10]),  # one of each
        ((3, 3), 500, [0, 1, 2, 4, 5, 8]),  # one of each, and the best of the rest
        ((1, 1, 8), 100, [0, 1, 2, 3, 4, 5, 13]),  # three images, one of each
        ((1, 9, 1, 29), 100, [0, 1, 2, 3, 12, 13, 14, 15, 44]),  # of five the best four remain
        ((1, 1, 30), 100, [0, 1, 2, 3, 4, 5, 35]),  # of five the best three
    ],
)
def test_shares(lengths: tuple[int, ...], permille: int, kept: list[int]) -> None:
    check_everywhere(lengths, PruneParameters(keep_permille=permille, pivot_ratio=1.0), kept)


def check_everywhere(
    lengths: tuple[int, ...], parameters: PruneParameters, kept: list[int]
) -> None:
    prompt = small_prompt(*lengths)
    assert expected(prompt, parameters) == kept
    assert in_torch(prompt, parameters) == kept
    for native in (False, custom_op.library("cpu") is not None):
        assert runner(parameters, 17, False, native)(prompt) == kept


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hidden_states": np.ones((2, 9, 4), np.float32)}, "hidden_states has shape"),
        ({"visual_positions": np.array([1, 3, 2], np.int64)}, "visual_positions is not ascending"),
        ({"visual_positions": np.array([1, 2, 99], np.int64)}, "visual_positions is not ascending"),
        ({"visual_positions": np.array([1, 2, 3], np.int32)}, "visual_positions is torch.int32"),
        ({"image_lengths": np.array([2], np.int64)}, "image_lengths is [2], expected lengths"),
        ({"image_lengths": np.array([4, -1], np.int64)}, "image_lengths is [4, -1]"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Array], problem: str) -> None:
    prompt = Prompt(**{**vars(small_prompt(3)), **change})
    with pytest.raises(ValueError, match="^" + problem.replace("[", r"\[")):
        in_torch(prompt, PruneParameters(keep=1))
