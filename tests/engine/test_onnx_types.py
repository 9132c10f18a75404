"""The types of values, as an ONNX file says them."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from d2export.engine.onnx_types import float_values


def test_types_of_values() -> None:
    kinds = {
        "half": TensorProto.FLOAT16,
        "single": TensorProto.FLOAT,
        "brain": TensorProto.BFLOAT16,
        "ids": TensorProto.INT64,
    }
    values = [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in kinds.items()]
    sequence = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None)
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])
    graph = helper.make_graph([], "g", [], [output], value_info=[*values, sequence])
    assert float_values(helper.make_model(graph).SerializeToString()) == {
        "half": "float16",
        "single": "float32",
        "logits": "float32",
    }


def test_a_bundle_says_the_type_of_what_its_nodes_compute(small_bundle: Path) -> None:
    """TensorRT 8 is told them layer by layer."""
    path = small_bundle / "onnx" / "vision.onnx"
    found = float_values(path.read_bytes())
    graph = onnx.load(path, load_external_data=False).graph
    products = [node.output[0] for node in graph.node if node.op_type in ("MatMul", "Softmax")]
    assert len(products) > 10
    assert {found.get(name) for name in products} == {"float32"}
