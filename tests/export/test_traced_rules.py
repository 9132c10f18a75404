"""Every rule survives tracing as one node, and the graph around it takes any number of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from d2export.export.onnx_function import prune_functions
from d2export.export.ops import OPS, PADDED_OP_TYPE
from d2export.export.torch_op import prune
from d2export.export.tracing import trace
from d2export.pruning.parameters import DOMAIN
from d2export.pruning.rule_parameters import (
    DartParameters,
    DeduplicateParameters,
    DppParameters,
    ElbowParameters,
    MaxMinParameters,
)

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

WIDTH = 12
# The elbow of two levels of importance, as below, is where the higher ends.
GAP = ElbowParameters(elbow=1)


class Pruned(nn.Module):
    """Tokens of one image, pruned; then work on those kept, whose number no tracer knows."""

    def __init__(self, op_type: str, parameters: Any) -> None:
        super().__init__()
        self.op_type, self.parameters_of_op = op_type, parameters

    def forward(self, features: Tensor, importance: Tensor) -> tuple[Tensor, ...]:
        """`[N, C]` and `[N]` to kept `[M, C]`, their ids `[M]`, and `[M, C + 4]` made of both."""
        inputs = (features.unsqueeze(0), importance.unsqueeze(0))[: len(OPS[self.op_type].inputs)]
        kept, indices, *count = prune(self.op_type, *inputs, parameters=self.parameters_of_op)
        tokens, ids = kept.squeeze(0), indices.squeeze(0)
        queries = tokens.reshape(-1, 3, 4).transpose(0, 1)
        mixed = torch.softmax(queries @ queries.transpose(1, 2), dim=-1) @ queries
        again = importance.index_select(0, ids.clamp(min=0))
        worked = torch.cat([mixed.mean(0) * again.unsqueeze(1), tokens], dim=1)
        return tokens, ids, worked, *count


def traced(op_type: str, parameters: Any, opset: int) -> onnx.ModelProto:
    def make() -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
        tokens = torch.export.Dim("tokens", min=2, max=4096)
        arguments = {"features": torch.empty(23, WIDTH), "importance": torch.empty(23)}
        return Pruned(op_type, parameters), arguments, {name: {0: tokens} for name in arguments}

    model = trace(make, "pruned", opset)
    assert [node.op_type for node in model.graph if node.domain == DOMAIN] == [op_type]
    for function in prune_functions(opset, [op_type]):
        model.functions[DOMAIN, function.name, ""] = ir.serde.deserialize_function(function)
    model.ir_version = 10
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == opset
    return proto


def check(model: onnx.ModelProto, module: Pruned, features: Tensor, importance: Tensor) -> int:
    """Compare ONNX Runtime with eager torch; how many tokens stay."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"features": features.numpy(), "importance": importance.numpy()}
    tokens, ids, worked, *count = session.run(None, feeds)
    wanted = module(features, importance)
    np.testing.assert_array_equal(ids, wanted[1].numpy())
    np.testing.assert_array_equal(tokens, wanted[0].numpy())
    np.testing.assert_allclose(worked, wanted[2].numpy(), rtol=1e-4, atol=1e-5)
    assert [value.tolist() for value in count] == [value.tolist() for value in wanted[3:]]
    return len(ids)


def two_levels(tokens: int, high: int) -> tuple[Tensor, Tensor]:
    """Features, and importance of which so many are high, in any order."""
    generator = torch.Generator().manual_seed(tokens + high)
    importance = torch.full((tokens,), 0.1)
    importance[torch.randperm(tokens, generator=generator)[:high]] = 0.9
    return torch.randn(tokens, WIDTH, generator=generator), importance


@pytest.mark.parametrize(
    ("op_type", "parameters", "opset"),
    [
        ("MaxMinPrune", MaxMinParameters(keep=6), 17),
        ("DppPrune", DppParameters(keep_permille=250), 18),
        ("DeduplicatePrune", DeduplicateParameters(keep=6, important_ratio=0.25), 20),
        ("DartPrune", DartParameters(keep_permille=250, pivots=3), 24),
    ],
)
def test_the_number_kept_follows_from_the_shapes(op_type: str, parameters: Any, opset: int) -> None:
    model = traced(op_type, parameters, opset)
    for tokens in (2, 5, 6, 7, 23, 300):
        features, importance = two_levels(tokens, tokens // 2)
        kept = check(model, Pruned(op_type, parameters), features, importance)
        assert kept == parameters.kept(tokens)


@pytest.mark.parametrize("opset", [17, 18, 20, 24])
def test_the_elbow_keeps_10_to_900_tokens_in_one_graph(opset: int) -> None:
    model = traced("ElbowPrune", GAP, opset)
    for value in model.graph.output:
        size = value.type.tensor_type.shape.dim[0]
        assert size.dim_param
        assert size.dim_param != "tokens"
    for tokens, high in [(1000, 10), (1000, 900), (1000, 64), (23, 10), (23, 22), (12, 1)]:
        assert check(model, Pruned("ElbowPrune", GAP), *two_levels(tokens, high)) == high
    for tokens in (2, 23):  # without a bend all stay
        assert check(model, Pruned("ElbowPrune", GAP), *two_levels(tokens, 0)) == tokens


@pytest.mark.parametrize("opset", [17, 24])
def test_the_padded_elbow_has_one_shape(opset: int) -> None:
    parameters = ElbowParameters(elbow=1, max_keep=64)
    model = traced(PADDED_OP_TYPE, parameters, opset)
    tokens, ids, _, count = model.graph.output
    shapes = [
        [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (tokens, ids, count)
    ]
    assert shapes == [[64, WIDTH], [64], [1]]
    for size, high in [(1000, 10), (1000, 900), (1000, 64), (23, 10), (2, 1)]:
        rows = check(model, Pruned(PADDED_OP_TYPE, parameters), *two_levels(size, high))
        assert rows == 64
