"""The torch ops are the selection, and their shapes are known without running them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from d2export.errors import UsageError
from d2export.export.ops import OPS, PADDED_OP_TYPE
from d2export.export.torch_op import overload, prune
from d2export.pruning.parameters import OP_TYPE, PruneParameters
from d2export.pruning.rule_parameters import ElbowParameters
from d2export.pruning.selection import select
from tests.export.rule_examples import ELBOWS, OP_TYPES, exact, expected
from tests.selection_cases import FLAVOURS, sweep

OVERLOAD = overload(OP_TYPE)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
PARAMETERS = [
    PruneParameters(keep=4),
    PruneParameters(keep=40),
    PruneParameters(keep_permille=333, theta=0.5, pivots_block=True),
    PruneParameters(keep_permille=1000),
]


def inputs(tokens: int, dtype: torch.dtype = torch.float32, heads: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(tokens)
    shape = (2, heads, tokens) if heads else (2, tokens)
    return (
        torch.randn(2, tokens, 3, generator=generator).to(dtype),
        torch.rand(shape, generator=generator),
        torch.ones(tokens),
        torch.rand(tokens, 2, generator=generator),
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_eager_is_the_selection(flavour: str) -> None:
    for parameters, group in sweep(seed=7, flavour=flavour, groups=4, cases=2):
        for case in group:
            arguments = tuple(map(torch.from_numpy, vars(case).values()))
            kept, indices = prune(OP_TYPE, *arguments, parameters=parameters)
            assert indices.equal(select(*arguments, parameters))
            rows = torch.arange(len(kept))[:, None]
            expected = arguments[0][rows, indices.long()]
            assert kept.view(torch.int32).equal(expected.view(torch.int32))  # bit for bit


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kept_has_the_dtype_of_the_features(dtype: torch.dtype) -> None:
    kept, indices = prune(OP_TYPE, *inputs(9, dtype), parameters=PruneParameters(keep=4))
    assert kept.dtype == dtype
    assert kept.shape == (2, 4, 3)
    assert kept.is_contiguous()
    assert indices.dtype == torch.int32


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
@pytest.mark.parametrize("tokens", [0, 1, 9])
@pytest.mark.parametrize("heads", [0, 3])
def test_opcheck(parameters: PruneParameters, tokens: int, heads: int) -> None:
    results = torch.library.opcheck(
        OVERLOAD, inputs(tokens, torch.bfloat16, heads), parameters.attributes()
    )
    assert set(results.values()) == {"SUCCESS"}
    assert {"test_schema", "test_faketensor"} <= results.keys()


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_the_number_of_tokens_may_be_a_symbol(parameters: PruneParameters) -> None:
    class Module(torch.nn.Module):
        def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
            return prune(OP_TYPE, *arguments, parameters=parameters)

    # From 7 on all parameters keep at least 2: torch traces sizes of 1 and of more apart.
    tokens = torch.export.Dim("tokens", min=7, max=4096)
    program = torch.export.export(
        Module(),
        inputs(9, heads=2),
        dynamic_shapes=(({1: tokens}, {2: tokens}, {0: tokens}, {0: tokens}),),
        prefer_deferred_runtime_asserts_over_guards=True,  # as torch.onnx.export does
    )
    (node,) = (node for node in program.graph.nodes if node.target is OVERLOAD)
    kept, indices = node.meta["val"]
    assert kept.shape[0] == 2
    assert kept.shape[2] == 3
    assert kept.dtype == torch.float32
    assert indices.dtype == torch.int32
    assert str(kept.shape[1]) == str(indices.shape[1])
    # The traced program takes another number of tokens, and its symbol has the size that comes out.
    (symbol,) = node.args[0].meta["val"].shape[1].node.expr.free_symbols
    for count in (7, 9, 30, 300):
        arguments = inputs(count, heads=2)
        ran_kept, ran_indices = program.module()(*arguments)
        assert ran_indices.equal(select(*arguments, parameters))
        size = kept.shape[1]
        if isinstance(size, torch.SymInt):
            size = int(size.node.expr.subs(symbol, count))
        assert ran_kept.shape[1] == size == parameters.kept(count)


def test_wrong_arguments_are_named() -> None:
    features, importance, prior, grid = inputs(9)
    with pytest.raises(ValueError, match=r"prior has shape \[8\], expected \[9\]"):
        prune(OP_TYPE, features, importance, prior[1:], grid, parameters=PruneParameters(keep=4))
    settings = PruneParameters(keep=4).attributes()
    with pytest.raises(UsageError, match=r"alpha is 2.0, expected a number from 0 to 1"):
        OVERLOAD(features, importance, prior, grid, **(settings | {"alpha": 2.0}))


# --- The other rules ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op_type", OP_TYPES)
def test_eager_is_the_reference(op_type: str, dtype: torch.dtype) -> None:
    for seed in range(25):
        example = exact(np.random.default_rng(seed), op_type, dtype)
        inputs = example.inputs().values()
        kept, indices, *count = prune(op_type, *inputs, parameters=example.parameters)
        assert kept.dtype == dtype
        assert indices.dtype == torch.int32
        ids = expected(example)
        found = [[token for token in row if token >= 0] for row in indices.tolist()]
        assert found == ids, example
        tokens = torch.stack([image[row] for image, row in zip(example.features, ids, strict=True)])
        bits = torch.int32 if dtype == torch.float32 else torch.int16
        assert kept[:, : len(ids[0])].contiguous().view(bits).equal(tokens.view(bits))
        if op_type == PADDED_OP_TYPE:
            assert [value.tolist() for value in count] == [[len(ids[0])]]
            assert indices.shape == kept.shape[:2] == (1, example.parameters.max_keep)
            assert indices[:, len(ids[0]) :].eq(-1).all()
            assert kept[:, len(ids[0]) :].eq(0).all()
        else:
            assert not count


@pytest.mark.parametrize("op_type", OP_TYPES)
def test_opcheck_of_each_rule(op_type: str) -> None:
    for seed in range(6):
        example = exact(np.random.default_rng(seed), op_type, torch.bfloat16)
        inputs = example.inputs()
        inputs["features"] = inputs["features"].nan_to_num()  # opcheck: NaN is no NaN
        results = torch.library.opcheck(
            overload(op_type), tuple(inputs.values()), example.parameters.attributes()
        )
        assert set(results.values()) == {"SUCCESS"}
        assert {"test_schema", "test_faketensor"} <= results.keys()


def test_the_schema_is_that_of_the_table() -> None:
    assert str(overload("DeduplicatePrune")._schema) == (
        "d2export::DeduplicatePrune(Tensor features, Tensor importance, int keep, "
        "int keep_permille, float important_ratio) -> (Tensor, Tensor)"
    )
    for op_type, op in OPS.items():
        schema = overload(op_type)._schema
        names = [argument.name for argument in schema.arguments]
        assert names == [*op.input_names, *op.defaults()]
        assert len(schema.returns) == len(op.outputs)


@pytest.mark.parametrize("op_type", ELBOWS)
def test_a_number_that_depends_on_values_is_that_of_one_image(op_type: str) -> None:
    parameters: Any = ElbowParameters(max_keep=4)
    with pytest.raises(ValueError, match="features has 2 images"):
        prune(op_type, torch.zeros(2, 3, 1), torch.zeros(2, 3), parameters=parameters)


def test_a_padded_selection_has_a_limit() -> None:
    with pytest.raises(UsageError, match="max_keep is not set"):
        prune(PADDED_OP_TYPE, torch.zeros(1, 3, 1), torch.zeros(1, 3), parameters=ElbowParameters())
