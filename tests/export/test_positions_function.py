"""`D2PrunePositions` as standard ONNX operators, in torch, and told one token after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from d2export.engine import custom_op
from d2export.export.onnx_function import prune_functions, register_schema
from d2export.export.ops import POSITIONS
from d2export.export.torch_op import prune_positions
from d2export.pruning import reference
from d2export.pruning.parameters import DOMAIN, OP_VERSION, POSITIONS_OP_TYPE, PruneParameters
from tests.selection_cases import FLAVOURS, Array, Case, has_margin, random_case, random_parameters

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

PROMPTS = 12  # of each flavour


@dataclass(frozen=True)
class Prompt:
    """The op's inputs, in its order."""

    hidden_states: Array
    importance: Array
    prior: Array
    grid: Array
    visual_positions: Array
    image_lengths: Array


def random_prompt(rng: np.random.Generator, flavour: str) -> tuple[Prompt, PruneParameters]:
    """One to three images in one prompt; text before, between and after them, or none."""
    heads = bool(rng.random() < 0.5)
    while True:
        first = FLAVOURS[flavour](random_case(rng, heads), rng)
        parameters = random_parameters(rng, first, flavour)
        images = [first]
        while len(images) < int(rng.integers(1, 4)):
            other = FLAVOURS[flavour](random_case(rng, heads), rng)
            if other.features.shape[2] == first.features.shape[2] and (
                not heads or other.importance.shape[1] == first.importance.shape[1]
            ):
                images.append(other)
        if flavour == "exact" or all(has_margin(one_of(image), parameters) for image in images):
            break
    width = first.features.shape[2]
    texts = [rng.integers(0, 4) for _ in range(len(images) + 1)]
    texts[-1] += 1  # a prompt never ends with an image
    hidden, scores, positions = [], [], []
    at = 0
    for count, image in zip(texts, [*images, None], strict=True):
        hidden.append(rng.standard_normal((count, width)).astype(np.float32))
        scores.append(np.full((*first.importance.shape[1:-1], count), np.nan, np.float32))
        at += count
        if image is not None:
            hidden.append(image.features[0])
            scores.append(image.importance[0])
            positions.append(at + np.arange(len(image.grid)))
            at += len(image.grid)
    prompt = Prompt(
        np.concatenate(hidden)[None],
        np.concatenate(scores, axis=-1)[None],
        np.concatenate([image.prior for image in images]),
        np.concatenate([image.grid for image in images]),
        np.concatenate(positions).astype(np.int64),
        np.array([len(image.grid) for image in images], np.int64),
    )
    return prompt, parameters


def one_of(case: Case) -> Case:
    return Case(case.features[:1], case.importance[:1], case.prior, case.grid)


def expected(prompt: Prompt, parameters: PruneParameters) -> list[int]:
    hidden, importance, *rest = astuple(prompt)
    answer = reference.surviving_positions(hidden[0], importance[0], *rest, parameters)
    return [int(position) for position in answer]


def model_of(parameters: PruneParameters, opset: int, heads: bool) -> onnx.ModelProto:
    register_schema()
    info, floats, longs = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    node = helper.make_node(
        POSITIONS_OP_TYPE,
        POSITIONS.input_names,
        ["positions"],
        domain=DOMAIN,
        **parameters.attributes(),
    )
    graph = helper.make_graph(
        [node],
        "positions",
        [
            info("hidden_states", floats, [1, "T", "C"]),
            info("importance", floats, [1, "H", "T"] if heads else [1, "T"]),
            info("prior", floats, ["V"]),
            info("grid", floats, ["V", 2]),
            info("visual_positions", longs, ["V"]),
            info("image_lengths", longs, ["I"]),
        ],
        [info("positions", TensorProto.INT32, ["S"])],
    )
    model = helper.make_model(
        graph,
        functions=prune_functions(opset, [POSITIONS_OP_TYPE]),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, OP_VERSION)],
    )
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model


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
    answer = prune_positions(*map(torch.from_numpy, astuple(prompt)), parameters)
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


def small_prompt(*lengths: int) -> Prompt:
    """Text, an image, text, an image, ..., text; earlier visual tokens are more important."""
    at, positions = 1, []
    for length in lengths:
        positions += range(at, at + length)
        at += length + 1
    tokens = len(positions)
    scores = np.zeros(at, np.float32)
    scores[positions] = np.linspace(1, 0.5, tokens)
    return Prompt(
        np.ones((1, at, 4), np.float32),
        scores[None],
        np.ones(tokens, np.float32),
        np.stack([np.arange(tokens), np.zeros(tokens)], axis=1).astype(np.float32),
        np.array(positions, np.int64),
        np.array(lengths, np.int64),
    )


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
    prompt = small_prompt(*lengths)
    parameters = PruneParameters(keep=keep, pivot_ratio=1.0)
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
