"""A part of a graph asks for its own inputs and weights only, and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from d2export.engine.onnxruntime import open_session


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """z = (x * weight - y) * unused"""
    nodes = [
        helper.make_node("Mul", ["x", "weight"], ["inside"]),
        helper.make_node("Neg", ["y"], ["aside"]),
        helper.make_node("Add", ["inside", "aside"], ["sum"]),
        helper.make_node("Mul", ["sum", "unused"], ["z"]),
    ]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xyz"}
    weights = [
        numpy_helper.from_array(np.float32([2, 3]), "weight"),
        numpy_helper.from_array(np.float32([5, 7]), "unused"),
    ]
    inside = [helper.make_tensor_value_info("inside", TensorProto.FLOAT, [2])]
    inputs, outputs = [values["x"], values["y"]], [values["z"]]
    found = helper.make_graph(nodes, "g", inputs, outputs, weights, value_info=inside)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(found, opset_imports=opset, ir_version=8), tmp_path / "g.onnx")

    return tmp_path / "g.onnx"


def test_only_what_a_value_needs(graph: Path) -> None:
    session = open_session(graph, only_outputs=("inside",))
    assert [value.name for value in session.get_inputs()] == ["x"]
    assert [value.name for value in session.get_outputs()] == ["inside"]
    (answer,) = session.run(None, {"x": np.float32([1, 10])})
    assert answer.tolist() == [2, 30]


def test_what_is_given_is_not_computed(graph: Path) -> None:
    session = open_session(graph, only_outputs=("sum",), given=("inside", "z"))
    assert {value.name for value in session.get_inputs()} == {"inside", "y"}
    (answer,) = session.run(None, {"inside": np.float32([1, 2]), "y": np.float32([3, 5])})
    assert answer.tolist() == [-2, -3]
