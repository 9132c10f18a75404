"""Sessions: what is missing or broken is named, and bfloat16 runs on a CPU."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from d2export.engine.onnxruntime import open_session
from d2export.errors import BundleError, EnvironmentMismatch, UsageError
from d2export.export.onnx_function import prune_model
from d2export.pruning.parameters import PruneParameters


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "prune.onnx"
    onnx.save(prune_model(PruneParameters(keep=2), 17, TensorProto.FLOAT), path)
    return path


def feeds(tokens=5, dtype=np.float32):
    random = np.random.default_rng(0)
    return {
        "features": random.standard_normal((1, tokens, 4)).astype(dtype),
        "importance": np.arange(tokens, dtype=np.float32)[None, None],
        "prior": np.ones(tokens, np.float32),
        "grid": np.zeros((tokens, 2), np.float32),
    }


def test_it_runs(graph):
    kept, indices = open_session(graph, threads=1).run(None, feeds())
    assert indices.tolist()[0][-1] == 4
    assert kept.shape == (1, 2, 4)


def test_an_unknown_provider_is_a_usage_error(graph):
    with pytest.raises(UsageError, match=r"'tpu'.*cpu, cuda"):
        open_session(graph, provider="tpu")


def test_a_provider_this_build_lacks_is_never_replaced(graph):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(EnvironmentMismatch, match="CUDAExecutionProvider"):
        open_session(graph, provider="cuda")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x0a" * 50])
def test_a_file_that_is_no_graph_is_named(content, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"broken\.onnx"):
        open_session(path)


def test_values_inside_the_graph_can_be_returned(tmp_path):
    """y = (a + b) * a, looking at a + b."""
    info = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Add", ["a", "b"], ["sum"]),
                helper.make_node("Mul", ["sum", "a"], ["y"]),
            ],
            "g",
            [info("a", TensorProto.FLOAT, [2]), info("b", TensorProto.FLOAT, [2])],
            [info("y", TensorProto.FLOAT, [2])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = tmp_path / "g.onnx"
    onnx.save(model, path)
    session = open_session(path, extra_outputs=("sum",))
    y, total = session.run(None, {"a": np.float32([1, 2]), "b": np.float32([3, 4])})
    assert y.tolist() == [4, 12]
    assert total.tolist() == [4, 6]


def test_bfloat16_rounds_every_value_as_bfloat16_does(tmp_path):
    """1 + 2^-9 is 1 in bfloat16; so is the sum of 256 and 0.5 equal to 256."""
    info, bf16 = helper.make_tensor_value_info, TensorProto.BFLOAT16
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["a"], ["narrow"], to=bf16),
                helper.make_node("Add", ["narrow", "narrow_constant"], ["y"]),
            ],
            "g",
            [info("a", TensorProto.FLOAT, [3])],
            [info("y", bf16, [3])],
            [helper.make_tensor("narrow_constant", bf16, [3], [1.0, 0.5, 0.25])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = tmp_path / "g.onnx"
    onnx.save(model, path)
    session = open_session(path, precision="bf16")
    (y,) = session.run(None, {"a": np.float32([2**-9, 256, 1.0 + 2**-9])})
    assert y.tolist() == [1.0, 256.0, 1.25]


def test_bfloat16_selection_alone(tmp_path):
    path = tmp_path / "prune.onnx"
    onnx.save(prune_model(PruneParameters(keep=2), 17, TensorProto.BFLOAT16), path)
    kept, indices = open_session(path, precision="bf16").run(None, feeds())
    assert indices.shape == (1, 2)
    assert kept.dtype == np.float32
    assert (kept.view(np.uint32) & 0xFFFF == 0).all()  # bfloat16 values in float32
