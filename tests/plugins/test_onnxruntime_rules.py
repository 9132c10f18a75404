"""MaxMinPrune, DppPrune and DeduplicatePrune in ONNX Runtime, by the custom-op library."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from d2export.export.onnx_function import prune_model
from d2export.pruning.rules import RULES
from tests.plugins.custom_op import ONNX_TYPES, operators, session
from tests.rule_cases import normal

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the custom op")

RULE_OPS = ("MaxMinPrune", "DppPrune", "DeduplicatePrune")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def model_of(op_type: str, dtype: str = "float32", heads: bool = True, **attributes: Any) -> Any:
    """The op alone, without the function that could stand in for the library."""
    parameters = RULES[op_type].parameters(**attributes)
    model = prune_model(parameters, 17, ONNX_TYPES[dtype], heads=heads, op_type=op_type)
    del model.functions[:]
    return model


def inputs_of(op_type: str, features: Tensor, importance: Tensor) -> dict[str, Tensor]:
    return {"features": features} | ({"importance": importance} if RULES[op_type].inputs else {})


def run(opened: Any, inputs: dict[str, Tensor], dtype: str) -> tuple[bytes, np.ndarray[Any, Any]]:
    """Bytes of `kept`, and the indices."""
    value = onnxruntime.OrtValue
    given = {name: value.ortvalue_from_numpy(x.float().numpy()) for name, x in inputs.items()}
    # numpy has no bfloat16: ONNX Runtime is told what the bits are.
    bits = inputs["features"].view({4: torch.int32, 2: torch.int16}[inputs["features"].itemsize])
    given["features"] = value.ortvalue_from_numpy_with_onnx_type(bits.numpy(), ONNX_TYPES[dtype])
    kept, indices = opened.run_with_ort_values(["kept", "indices"], given)
    size = int(np.prod(kept.shape())) * inputs["features"].itemsize
    return ctypes.string_at(kept.data_ptr(), size), indices.numpy()


@pytest.mark.parametrize("op_type", RULE_OPS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [True, False])
def test_equals_the_reference(library: Path, op_type: str, dtype: str, heads: bool) -> None:
    for turn, (batch, tokens, channels) in enumerate([(1, 40, 33), (2, 70, 8), (1, 300, 24)]):
        features = normal(turn, batch, tokens, channels).to(DTYPES[dtype])
        importance = normal(turn + 9, *((batch, 3, tokens) if heads else (batch, tokens)))
        inputs = inputs_of(op_type, features, importance)
        for attributes in ({"keep": 1}, {"keep_permille": 250}, {"keep": tokens + 1}):
            rule = RULES[op_type]
            wanted = rule.select(*inputs.values(), rule.parameters(**attributes), using="torch")
            model = model_of(op_type, dtype, heads, **attributes)
            kept, indices = run(session(library, model), inputs, dtype)
            assert indices.tolist() == wanted.tolist()
            rows = wanted.long().unsqueeze(-1).expand(-1, -1, channels)
            chosen = features.gather(1, rows)
            assert kept == chosen.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("op_type", RULE_OPS)
def test_a_session_with_the_library_does_not_run_the_function(
    library: Path, op_type: str, tmp_path: Path
) -> None:
    parameters = RULES[op_type].parameters(keep=9)
    model = prune_model(parameters, 17, TensorProto.FLOAT, op_type=op_type)
    assert model.functions
    inputs = inputs_of(op_type, normal(0, 2, 30, 16), normal(1, 2, 3, 30))
    answers = []
    for registered in (library, None):
        opened = session(registered, model, profile=tmp_path / "profile")
        answers.append(opened.run(None, {name: x.numpy() for name, x in inputs.items()}))
        executed = operators(Path(opened.end_profiling()))
        assert executed == {op_type} if registered else op_type not in executed
    for ours, the_functions in zip(*answers, strict=True):
        assert ours.tobytes() == the_functions.tobytes()


@pytest.mark.parametrize("op_type", RULE_OPS)
@pytest.mark.parametrize(("batch", "tokens", "channels"), [(2, 0, 5), (0, 7, 5), (2, 7, 0)])
def test_no_pictures_tokens_or_channels(
    library: Path, op_type: str, batch: int, tokens: int, channels: int
) -> None:
    features, importance = torch.ones(batch, tokens, channels), torch.ones(batch, tokens)
    inputs = inputs_of(op_type, features, importance)
    rule = RULES[op_type]
    wanted = rule.select(*inputs.values(), rule.parameters(keep=4), using="torch")
    _, indices = run(session(library, model_of(op_type, heads=False, keep=4)), inputs, "float32")
    assert indices.shape == (batch, min(4, tokens))
    assert indices.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("op_type", "name", "value", "message"),
    [
        *((op_type, "keep", 0, "keep=0 and keep_permille=0: expected") for op_type in RULE_OPS),
        ("MaxMinPrune", "keep", 2.0, "attribute keep is a float, expected an integer"),
        ("DeduplicatePrune", "important_ratio", 2.0, r"important_ratio is 2\.0, expected a number"),
    ],
)
def test_an_attribute_that_does_not_fit_is_named(
    library: Path, op_type: str, name: str, value: float, message: str
) -> None:
    model = model_of(op_type, keep=2)
    (node,) = model.graph.node
    (old,) = (entry for entry in node.attribute if entry.name == name)
    node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, value))
    with pytest.raises(Exception, match=f"{op_type} node '{op_type}': {message}"):
        session(library, model)


@pytest.mark.parametrize("op_type", ["DppPrune", "DeduplicatePrune"])
def test_an_input_that_does_not_fit_is_named(library: Path, op_type: str) -> None:
    model = model_of(op_type, keep=2)
    for value in model.graph.input:  # whose declared rank would be refused before the op is asked
        value.type.tensor_type.ClearField("shape")
    inputs = {
        "features": np.zeros((2, 5, 3), np.float32),
        "importance": np.zeros((2, 4), np.float32),
    }
    message = r"importance has shape \[2, 4\], expected \[2, 5\] or \[2, H, 5\]"
    with pytest.raises(Exception, match=message):
        session(library, model).run(None, inputs)
