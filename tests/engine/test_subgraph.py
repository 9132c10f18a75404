"""The lower part of a graph asks for its own inputs and weights only, and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from d2export.engine.onnxruntime import open_session


def test_only_what_a_value_needs(tmp_path: Path) -> None:
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
    graph = helper.make_graph(nodes, "g", [values["x"], values["y"]], [values["z"]], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "g.onnx")

    session = open_session(tmp_path / "g.onnx", only_outputs=("inside",))
    assert [value.name for value in session.get_inputs()] == ["x"]
    assert [value.name for value in session.get_outputs()] == ["inside"]
    (answer,) = session.run(None, {"x": np.float32([1, 10])})
    assert answer.tolist() == [2, 30]
