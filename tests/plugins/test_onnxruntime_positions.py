"""D2PrunePositions in ONNX Runtime, by the custom-op library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from d2export.pruning.parameters import PruneParameters
from tests.plugins.custom_op import ONNX_TYPES, operators, session
from tests.plugins.drivers import DTYPES, stored
from tests.prompt_cases import Prompt, expected, large_prompt, random_prompt, small_prompt
from tests.prompt_model import model_of
from tests.selection_cases import Array

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the custom op")


def alone(parameters: PruneParameters, heads: bool = False, dtype: str = "float32") -> Any:
    """The op without the function that could stand in for the library."""
    model = model_of(parameters, 17, heads, ONNX_TYPES[dtype])
    del model.functions[:]
    return model


def run(opened: Any, prompt: Prompt, dtype: str = "float32") -> list[int]:
    value = onnxruntime.OrtValue
    given = {
        name: value.ortvalue_from_numpy(np.ascontiguousarray(array))
        for name, array in vars(prompt).items()
    }
    # numpy has no bfloat16: ONNX Runtime is told what the bits are.
    states = stored(prompt.hidden_states, dtype)
    given["hidden_states"] = value.ortvalue_from_numpy_with_onnx_type(states, ONNX_TYPES[dtype])
    (positions,) = opened.run_with_ort_values(["positions"], given)
    found = positions.numpy()
    assert found.dtype == np.int32
    return [int(position) for position in found]


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_reference(library: Path, dtype: str) -> None:
    rng = np.random.default_rng(3)
    prompts = [random_prompt(rng, "plain") for _ in range(8)] + [large_prompt(rng)]
    for prompt, parameters in prompts:
        opened = session(library, alone(parameters, prompt.importance.ndim == 3, dtype))
        assert run(opened, prompt, dtype) == expected(prompt, parameters), parameters


@pytest.mark.parametrize("lengths", [(), (0, 0), (4,), (1, 5), (1, 1, 30)])
@pytest.mark.parametrize("budget", [{"keep": 3}, {"keep_permille": 100}])
def test_every_budget(library: Path, lengths: tuple[int, ...], budget: dict[str, int]) -> None:
    """Also no image at all, as in every decode step."""
    prompt, parameters = small_prompt(*lengths), PruneParameters(**budget)
    assert run(session(library, alone(parameters)), prompt) == expected(prompt, parameters)


def test_a_session_with_the_library_does_not_run_the_function(
    library: Path, tmp_path: Path
) -> None:
    parameters = PruneParameters(keep=3)
    model = model_of(parameters, 17, heads=False)
    assert model.functions
    for registered in (library, None):
        opened = session(registered, model, profile=tmp_path / "profile")
        assert run(opened, small_prompt(5, 4)) == expected(small_prompt(5, 4), parameters)
        executed = operators(Path(opened.end_profiling()))
        assert (executed == {"D2PrunePositions"}) == (registered is not None)


def test_shapes_are_known_where_those_of_the_inputs_are(library: Path) -> None:
    model = alone(PruneParameters(keep=2))
    known = {"T": 12, "C": 4, "V": 9, "I": 2}
    for value in model.graph.input:
        for extent in value.type.tensor_type.shape.dim:
            if extent.dim_param:
                extent.dim_value = known[extent.dim_param]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    (output,) = session(library, model).get_outputs()
    assert output.shape == [12 - 9 + 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden_states": np.ones((2, 5, 4), np.float32)},
            r"hidden_states has shape \[2, 5, 4\], expected \[1, T, C\]",
        ),
        (
            {"importance": np.ones((1, 4), np.float32)},
            r"importance has shape \[1, 4\], expected \[1, 5\] or \[1, H, 5\]",
        ),
        ({"prior": np.ones(2, np.float32)}, r"prior has shape \[2\], expected \[3\]"),
        ({"grid": np.ones((3, 3), np.float32)}, r"grid has shape \[3, 3\], expected \[3, 2\]"),
        (
            {"visual_positions": np.arange(6)},
            r"visual_positions has shape \[6\], expected no more than the 5",
        ),
        (
            {"visual_positions": np.array([1, 3, 2])},
            "visual_positions is not ascending within 0 to 4",
        ),
        (
            {"image_lengths": np.array([1, 1])},
            r"image_lengths is \[1, 1\], expected lengths that add up to 3",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_named(
    library: Path, change: dict[str, Array], message: str
) -> None:
    model = alone(PruneParameters(keep=1))
    for value in model.graph.input:  # whose declared rank would be refused before the op is asked
        value.type.tensor_type.ClearField("shape")
    with pytest.raises(Exception, match=message):
        session(library, model).run(None, {**vars(small_prompt(3)), **change})


def test_an_attribute_that_does_not_fit_is_named(library: Path) -> None:
    model = alone(PruneParameters(keep=2))
    (node,) = model.graph.node
    (old,) = (entry for entry in node.attribute if entry.name == "keep")
    node.attribute.remove(old)
    node.attribute.append(helper.make_attribute("keep", 2.0))
    with pytest.raises(Exception, match="attribute keep is a float, expected an integer"):
        session(library, model)
