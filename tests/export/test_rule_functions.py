"""The rules as standard ONNX operators keep what their references in torch keep."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor

from d2export.export.onnx_function import (
    PARTS,
    prune_function,
    prune_functions,
    prune_model,
    register_schema,
)
from d2export.export.ops import OPS, PADDED_OP_TYPE
from d2export.pruning.parameters import DOMAIN, OP_TYPE, OP_VERSION, POSITIONS_OP_TYPE
from d2export.pruning.rule_parameters import (
    DartParameters,
    DeduplicateParameters,
    DppParameters,
    ElbowParameters,
    MaxMinParameters,
)
from tests.export.rule_examples import ELBOWS, OP_TYPES, Example, exact, expected, steady

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

OPSETS = (17, 18, 20, 24)
ONNX_TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
}
BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
NAN, INF = float("nan"), float("inf")
opsets, dtypes = st.sampled_from(OPSETS), st.sampled_from(list(ONNX_TYPES))
seeds = st.integers(0, 2**32 - 1)


@lru_cache(maxsize=64)
def session(
    op_type: str, parameters: Any, opset: int, dtype: torch.dtype, heads: bool, inlined: bool
) -> Any:
    model = prune_model(parameters, opset, ONNX_TYPES[dtype], heads=heads, op_type=op_type)
    if inlined:
        model = onnx.inliner.inline_local_functions(model)
        assert not model.functions
        assert DOMAIN not in {node.domain for node in model.graph.node}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(example: Example, opset: int = 17, *, inlined: bool = False) -> list[Tensor]:
    """Kept, indices, and count where there is one, from ONNX Runtime."""
    value, dtype = onnxruntime.OrtValue, example.features.dtype
    opened = session(
        example.op_type, example.parameters, opset, dtype, example.importance.dim() == 3, inlined
    )
    given_values = {}
    for name, tensor in example.inputs().items():
        if tensor.dtype == torch.bfloat16:  # numpy has none: ONNX Runtime is told what the bits are
            bits = tensor.view(torch.int16).numpy()
            given_values[name] = value.ortvalue_from_numpy_with_onnx_type(bits, ONNX_TYPES[dtype])
        else:
            given_values[name] = value.ortvalue_from_numpy(tensor.numpy())
    outputs = OPS[example.op_type].output_names
    answers = opened.run_with_ort_values(list(outputs), given_values)
    return [torch.from_dlpack(answer) for answer in answers]


def check(example: Example, kept: Tensor, indices: Tensor, count: Tensor | None = None) -> None:
    ids = expected(example)
    assert indices.dtype == torch.int32
    assert kept.dtype == example.features.dtype
    if count is not None:  # ids of the one image, then -1; its tokens, then zeros
        assert count.dtype == torch.int32
        assert count.tolist() == [len(ids[0])]
        most = example.parameters.max_keep
        assert indices.shape == (1, most)
        assert kept.shape == (1, most, example.features.shape[2])
        assert indices[:, len(ids[0]) :].eq(-1).all()
        assert kept[:, len(ids[0]) :].eq(0).all()
        indices, kept = indices[:, : len(ids[0])], kept[:, : len(ids[0])]
    assert indices.tolist() == ids, example
    images = zip(example.features, ids, strict=True)
    tokens = torch.stack([features[rows] for features, rows in images])
    bits = BITS[kept.dtype]
    assert kept.contiguous().view(bits).equal(tokens.view(bits))


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=60, deadline=None)
@given(seed=seeds, opset=opsets, dtype=dtypes, inlined=st.booleans())
def test_ties_and_degenerate_values(
    op_type: str, seed: int, opset: int, dtype: torch.dtype, inlined: bool
) -> None:
    example = exact(np.random.default_rng(seed), op_type, dtype)
    check(example, *run(example, opset, inlined=inlined))


@pytest.mark.parametrize("op_type", OP_TYPES)
@settings(max_examples=30, deadline=None)
@given(seed=seeds, opset=opsets, dtype=dtypes, inlined=st.booleans())
def test_tokens_of_any_direction(
    op_type: str, seed: int, opset: int, dtype: torch.dtype, inlined: bool
) -> None:
    example = steady(np.random.default_rng(seed), op_type, dtype)
    check(example, *run(example, opset, inlined=inlined))


@pytest.mark.parametrize("op_type", OP_TYPES)
def test_the_examples_have_every_kind_of_case(op_type: str) -> None:
    seen: set[str] = set()
    for seed in range(150):
        example = exact(np.random.default_rng(seed), op_type)
        kept, tokens = len(expected(example)[0]), example.features.shape[1]
        seen |= {
            f"batch {len(example.features)}",
            f"importance of rank {example.importance.dim()}",
            "one kept" if kept == 1 else "all kept" if kept == tokens else "some kept",
            "NaN scores" if example.importance.isnan().any() else "plain scores",
            "odd features" if not example.features.isfinite().all() else "plain features",
        }
    batches = (1,) if op_type in ELBOWS else (1, 2, 3)
    assert seen == {
        *(f"batch {size}" for size in batches),
        *("importance of rank 2", "importance of rank 3"),
        *("one kept", "some kept", "all kept"),
        *("NaN scores", "plain scores", "odd features", "plain features"),
    }


# --- By hand ------------------------------------------------------------------------------------


def letters(text: str) -> Tensor:
    """`[1, N, 4]`: tokens of the same letter are alike, others at right angles."""
    return torch.eye(4)[["ABCD".index(letter) for letter in text]].unsqueeze(0)


def rows(*tokens: tuple[float, ...]) -> Tensor:
    return torch.tensor([tokens], dtype=torch.float32)


def scores(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


HAND = [
    # The only token without a twin, then the first of the others.
    (Example("MaxMinPrune", letters("AAB"), scores(1, 1, 1), MaxMinParameters(keep=2)), [0, 2]),
    # Opposite before at right angles: 0 and 1 are each other's nearest, 2 has none near it.
    (
        Example(
            "MaxMinPrune",
            rows((1, 1), (1, 0), (-1, -1)),
            scores(1, 1, 1),
            MaxMinParameters(keep=2),
        ),
        [0, 2],
    ),
    # The best B, the best A, then nothing new is left: the best of the rest.
    (
        Example("DppPrune", letters("AABB"), scores(1, 3, 2, 4), DppParameters(keep=3)),
        [1, 2, 3],
    ),
    (
        Example("DppPrune", letters("AAAA"), scores(1, NAN, 2, INF), DppParameters(keep=3)),
        [0, 2, 3],
    ),
    # Places 0 and 2 are compared with 1 and 3: the A at place 2 has a twin.
    (
        Example(
            "DeduplicatePrune",
            letters("CBAA"),
            scores(4, 3, 2, 1),
            DeduplicateParameters(keep=3, important_ratio=0),
        ),
        [0, 1, 3],
    ),
    # Two by importance alone, though they are twins.
    (
        Example(
            "DeduplicatePrune",
            letters("AABC"),
            scores(9, 8, NAN, 7),
            DeduplicateParameters(keep=2, important_ratio=1),
        ),
        [0, 1],
    ),
    # The pivot is 0; opposite to it is 3.
    (
        Example(
            "DartPrune",
            rows((4, 0), (0, 1), (1, 0), (-1, 0)),
            scores(1, 1, 1, 1),
            DartParameters(keep=2, pivots=1),
        ),
        [0, 3],
    ),
    # Pivots 0 and 1; the first adds 3 and 4, the second 5.
    (
        Example(
            "DartPrune",
            rows((4, 0), (0, 4), (1, 1), (-1, 0), (0, -1), (1, 0)),
            scores(1, 1, 1, 1, 1, 1),
            DartParameters(keep=5, pivots=2),
        ),
        [0, 1, 3, 4, 5],
    ),
]
# Sorted 5 4 1 1 1, at ids 0 2 1 3 4.
HAND += [
    (Example("ElbowPrune", torch.zeros(1, 5, 2), scores(5, 1, 4, 1, 1), parameters), ids)
    for parameters, ids in [
        (ElbowParameters(elbow=0), [0, 2]),  # farthest below the chord: the first 1
        (ElbowParameters(elbow=1), [0, 2]),  # largest step: from 4 to 1
        (ElbowParameters(elbow=2), [0, 2]),  # largest bend: at the first 1
        (ElbowParameters(elbow=1, min_keep=3), [0, 1, 2]),
        (ElbowParameters(elbow=1, max_keep=1), [0]),
        (ElbowParameters(elbow=1, min_keep=9), [0, 1, 2, 3, 4]),
    ]
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("example", "ids"), HAND, ids=lambda value: getattr(value, "op_type", ""))
def test_by_hand(example: Example, ids: list[int], opset: int) -> None:
    _, indices = run(example, opset)
    assert indices.tolist() == [ids]


def test_padded_by_hand() -> None:
    features = torch.arange(8.0).reshape(1, 4, 2)
    parameters = ElbowParameters(elbow=1, max_keep=6)
    kept, indices, count = run(Example(PADDED_OP_TYPE, features, scores(1, 9, 1, 8), parameters))
    assert count.tolist() == [2]
    assert indices.tolist() == [[1, 3, -1, -1, -1, -1]]
    assert kept.tolist() == [[[2, 3], [6, 7], *[[0, 0]] * 4]]


# --- Sizes --------------------------------------------------------------------------------------

SETTINGS = {
    "MaxMinPrune": MaxMinParameters(keep=6),
    "DppPrune": DppParameters(keep=6),
    "DeduplicatePrune": DeduplicateParameters(keep=6),
    "DartPrune": DartParameters(keep=6),
    "ElbowPrune": ElbowParameters(),
    "ElbowPrunePadded": ElbowParameters(max_keep=6),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("heads", [(), (2,)], ids=["no heads", "heads"])
@pytest.mark.parametrize("op_type", OP_TYPES)
def test_no_tokens_is_no_error(op_type: str, heads: tuple[int, ...], opset: int) -> None:
    batch = 1 if op_type in ELBOWS else 2
    parameters = SETTINGS[op_type]
    example = Example(op_type, torch.zeros(batch, 0, 5), torch.zeros(batch, *heads, 0), parameters)
    check(example, *run(example, opset))


@pytest.mark.parametrize("op_type", OP_TYPES)
def test_one_graph_takes_any_number_of_tokens(op_type: str) -> None:
    for tokens in (1, 5, 6, 7, 300):
        steps = torch.randperm(tokens, generator=torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(tokens)
        features = torch.randn(1, tokens, 16, generator=generator)
        example = Example(op_type, features, steps[None] / 512, SETTINGS[op_type])
        check(example, *run(example))


@pytest.mark.parametrize("op_type", ["MaxMinPrune", "DppPrune", "DeduplicatePrune"])
def test_hundreds_of_steps_that_build_on_each_other(op_type: str) -> None:
    # As many tokens as dimensions, and more: of the last ones little is left outside the span.
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        example = Example(
            op_type,
            torch.randn(1, 500, 200, generator=generator),
            torch.rand(1, 500, generator=generator),
            OPS[op_type].parameters(keep=203),
        )
        check(example, *run(example))


def test_volumes_are_compared_in_float64() -> None:
    # Tokens at nearly right angles to the first: cosines of about 1/2048, squares of 2.4e-7, and
    # differences between these, by which the reference chooses, of 1e-10: nothing in float32.
    around = torch.linspace(0, 1.5, 40)
    others = torch.stack([torch.ones(40), 2048 * around.cos(), 2048 * around.sin()], dim=1)
    features = torch.cat([torch.tensor([[1.0, 0, 0]]), others]).unsqueeze(0)
    importance = torch.tensor([[2.0, *[1.0] * 40]])
    example = Example("DppPrune", features, importance, DppParameters(keep=2))
    assert expected(example)[0] not in ([0, 1], [0, 40])  # no tie that the index breaks
    check(example, *run(example))


# --- The model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", range(17, 25))
@pytest.mark.parametrize("dtype", list(ONNX_TYPES), ids=str)
@pytest.mark.parametrize("op_type", OP_TYPES)
def test_the_checker_has_no_objection(op_type: str, dtype: torch.dtype, opset: int) -> None:
    for heads in (True, False):
        model = prune_model(
            SETTINGS[op_type], opset, ONNX_TYPES[dtype], heads=heads, op_type=op_type
        )
        onnx.checker.check_model(model, full_check=True)
        imports = {entry.domain: entry.version for entry in model.opset_import}
        assert imports == {"": opset, DOMAIN: OP_VERSION}
        (node,) = model.graph.node
        found = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        assert found == {
            name: pytest.approx(value) for name, value in SETTINGS[op_type].attributes().items()
        }
        assert [value.name for value in model.graph.input] == list(node.input)
        assert [value.name for value in model.graph.output] == list(node.output)


def test_functions_come_after_what_they_call() -> None:
    for op_type in OPS:
        known: set[str] = set()
        for function in prune_functions(20, [op_type]):
            called = {node.op_type for node in nodes(function.node) if node.domain == DOMAIN}
            assert called <= known, function.name
            known.add(function.name)
            imports = {entry.domain: entry.version for entry in function.opset_import}
            assert imports == {"": 20} | ({DOMAIN: OP_VERSION} if called else {})
        assert op_type in known
    everything = [function.name for function in prune_functions(20, OPS)]
    assert sorted(everything) == sorted({*OPS, *PARTS})


def nodes(given: Any) -> list[onnx.NodeProto]:
    """All nodes, those of branches and loops among them."""
    inner = [nodes(attribute.g.node) for node in given for attribute in node.attribute]
    return [*given, *(node for group in inner for node in group)]


@pytest.mark.parametrize("op_type", OPS)
def test_schema_and_function_have_the_attributes_of_the_parameters(op_type: str) -> None:
    register_schema()
    op, function = OPS[op_type], prune_function(18, op_type)
    schema = onnx.defs.get_schema(op_type, OP_VERSION, DOMAIN)
    assert schema.doc == op.about
    assert [value.name for value in schema.inputs] == list(op.input_names) == list(function.input)
    assert [value.name for value in schema.outputs] == list(op.output_names)
    assert list(function.output) == list(op.output_names)
    defaults = op.defaults()
    assert schema.attributes.keys() == defaults.keys()
    assert list(function.attribute) == list(op.required)
    in_function = {
        entry.name: helper.get_attribute_value(entry) for entry in function.attribute_proto
    }
    for name, value in defaults.items():
        attribute = schema.attributes[name]
        assert attribute.required == (name in op.required)
        if name not in op.required:
            default = helper.get_attribute_value(attribute.default_value)
            assert type(default) is type(in_function[name]) is type(value)
            assert np.float32(default) == np.float32(in_function[name]) == np.float32(value)


def test_defaults_are_those_of_the_dataclasses() -> None:
    for op_type in OP_TYPES:
        op = OPS[op_type]
        counted = "keep" in op.defaults()
        made = op.parameters(keep=1) if counted else op.parameters()
        assert op.defaults() == made.attributes() | ({"keep": 0} if counted else {})
    assert OPS[PADDED_OP_TYPE].required == ("max_keep",)
    assert {OP_TYPE, POSITIONS_OP_TYPE} <= OPS.keys()
