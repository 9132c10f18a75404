"""`CorrelationPrunePositions`: by hand, and as standard ONNX operators like its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from d2export.export.onnx_function import prune_model
from d2export.export.ops import CORRELATION_OP_TYPE
from d2export.export.torch_op import correlated_positions
from d2export.pruning.rule_parameters import ELBOW_RULES, ElbowParameters
from d2export.pruning.rules import correlation

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

OPSETS = (17, 18, 20, 24)
Prompt = dict[str, np.ndarray]


def prompt_of(
    length: int, attention: Any, visual_positions: list[int], text_positions: list[int]
) -> Prompt:
    shape = (len(text_positions) + 1, len(visual_positions))
    return {
        "hidden_states": np.zeros((1, length, 4), np.float32),
        "attention": np.array(attention, np.float32).reshape(shape),
        "visual_positions": np.array(visual_positions, np.int64),
        "text_positions": np.array(text_positions, np.int64),
    }


def reference(prompt: Prompt, parameters: ElbowParameters) -> list[int]:
    _, *given = [torch.from_numpy(array) for array in prompt.values()]
    length = prompt["hidden_states"].shape[1]
    positions = correlation.correlated_positions(length, *given, parameters)
    assert positions.dtype == torch.int32
    return [int(position) for position in positions]


def in_torch(prompt: Prompt, parameters: ElbowParameters) -> list[int]:
    given = [torch.from_numpy(array) for array in prompt.values()]
    return [int(position) for position in correlated_positions(*given, parameters)]


def session(parameters: ElbowParameters, opset: int) -> Any:
    model = prune_model(parameters, opset, TensorProto.FLOAT, op_type=CORRELATION_OP_TYPE)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(opened: Any, prompt: Prompt) -> list[int]:
    (positions,) = opened.run(None, prompt)
    assert positions.dtype == np.int32
    return [int(position) for position in positions]


# BOS, five visual tokens, a token of the template, four words, the last token.
BY_HAND = prompt_of(
    12,
    [
        # Rows of words 7 to 10, each with the most that it attends to any visual token; then the
        # last token's row. By column: 4 9 1 10 2, sorted 10 9 4 2 1.
        [0, 9, 0, 1, 0],  # 9
        [1, 0, 0, 0, 1],  # 1
        [4, 0, 1, 8, 0],  # 8
        [0, 2, 0, 1, 2],  # 2
        [0, 0, 0, 10, 1],
    ],
    [1, 2, 3, 4, 5],
    [7, 8, 9, 10],
)


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        # Visual tokens: 10 9 4 2 1 less the chord is 0 5 -6 -5 0, four times as large: two stay,
        # at 4 and 2. Words: 9 8 2 1 less the chord is 0 5 -5 0, three times as large; of the two
        # points the earlier counts, and it belongs to the head.
        (ElbowParameters(), [0, 2, 4, 6, 7, 9, 11]),
        # The largest steps down are 9 to 4 and 8 to 2.
        (ElbowParameters(elbow=ELBOW_RULES.index("gap")), [0, 2, 4, 6, 7, 9, 11]),
        # Bounds are those of the visual tokens alone.
        (ElbowParameters(min_keep=4), [0, 1, 2, 4, 5, 6, 7, 9, 11]),
        (ElbowParameters(min_keep=1, max_keep=1), [0, 4, 6, 7, 9, 11]),
        (ElbowParameters(min_keep=9), [0, 1, 2, 3, 4, 5, 6, 7, 9, 11]),
    ],
)
def test_by_hand(parameters: ElbowParameters, kept: list[int]) -> None:
    assert reference(BY_HAND, parameters) == kept
    assert in_torch(BY_HAND, parameters) == kept
    for opset in OPSETS:
        assert run(session(parameters, opset), BY_HAND) == kept


@pytest.mark.parametrize("rule", range(len(ELBOW_RULES)), ids=ELBOW_RULES)
@pytest.mark.parametrize("opset", OPSETS)
def test_random_prompts(opset: int, rule: int) -> None:
    rng = np.random.default_rng([opset, rule])
    parameters = ElbowParameters(2, 12, rule)
    opened = session(parameters, opset)
    sizes = [(0, 0), (0, 5), (5, 0), (1, 1), (2, 2), *rng.integers(0, 40, (15, 2)).tolist()]
    for visual, words in sizes:
        others = int(rng.integers(0, 6))
        length = visual + words + others + 1
        places = rng.permutation(length - 1)
        attention = rng.random((words + 1, visual)) ** 8
        if rng.random() < 0.5:
            attention = np.round(attention * 4) / 4  # many ties
        seen, said = sorted(places[:visual]), sorted(places[visual : visual + words])
        prompt = prompt_of(length, attention, seen, said)
        kept = reference(prompt, parameters)
        assert run(opened, prompt) == in_torch(prompt, parameters) == kept
        # Neither the other text nor the last token ever goes, and of a kind with any, one stays.
        assert set(range(length)) - set(seen) - set(said) <= set(kept)
        assert min(visual, 2) <= len(set(kept) & set(seen)) <= 12
        assert bool(set(kept) & set(said)) == bool(words)
        if visual == 0:
            assert kept == list(range(length))


def test_what_does_not_fit_is_named() -> None:
    short = {**BY_HAND, "attention": BY_HAND["attention"][:-1]}
    with pytest.raises(ValueError, match=r"^attention has shape \[4, 5\], expected \[5, 5\]"):
        reference(short, ElbowParameters())
    half = {**BY_HAND, "attention": BY_HAND["attention"].astype(np.float16)}
    with pytest.raises(ValueError, match=r"^attention is torch.float16, expected float32"):
        reference(half, ElbowParameters())
