"""The op as standard ONNX operators keeps what torch and the reference keep."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from d2export.engine.bfloat16 import compute_in_float32
from d2export.export.onnx_function import prune_function, prune_model, register_schema
from d2export.pruning.parameters import DOMAIN, OP_TYPE, OP_VERSION, PruneParameters
from d2export.pruning.selection import select
from tests.selection_cases import BEYOND_FLOAT16, FLAVOURS, Array, Case, expected, pairs, sweep

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

OPSETS = range(17, 25)
GROUPS, CASES = 16, 3  # 16 flavours of them: 768 cases
NUMPY_TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def runner(model: onnx.ModelProto) -> Callable[[Case], tuple[Array, Array]]:
    """Runs the model in ONNX Runtime and gives kept and indices."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    assert names == ["features", "importance", "prior", "grid"]

    def run(case: Case) -> tuple[Array, Array]:
        kept, indices = session.run(["kept", "indices"], vars(case))
        return kept, indices

    return run


def gathered(features: Array, indices: Array) -> Array:
    return np.take_along_axis(features, indices[..., None].astype(np.int64), axis=1)


def from_numpy(case: Case) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.from_numpy, vars(case).values()))


def check(case: Case, parameters: PruneParameters, kept: Array, indices: Array) -> None:
    assert indices.dtype == np.int32
    assert indices.tolist() == expected(case, parameters).tolist(), parameters
    assert indices.tolist() == select(*from_numpy(case), parameters).tolist(), parameters
    assert kept.dtype == case.features.dtype
    assert kept.tobytes() == gathered(case.features, indices).tobytes()  # bit for bit


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_equals_torch_and_the_reference(flavour: str) -> None:
    types = list(NUMPY_TYPES)[: 1 if flavour in BEYOND_FLOAT16 else 2]
    groups = sweep(seed=3, flavour=flavour, groups=GROUPS, cases=CASES)
    for number, (parameters, group) in enumerate(groups):
        opset, dtype = OPSETS[number % len(OPSETS)], types[number // 3 % len(types)]
        heads = group[0].importance.ndim == 3
        run = runner(prune_model(parameters, opset, dtype, heads=heads))
        for case in group:
            narrow = Case(
                case.features.astype(NUMPY_TYPES[dtype]), case.importance, case.prior, case.grid
            )
            check(narrow, parameters, *run(narrow))


def test_the_sweep_has_every_kind_of_case() -> None:
    seen: set[str] = set()
    count = 0
    for flavour in FLAVOURS:
        for parameters, group in sweep(seed=3, flavour=flavour, groups=GROUPS, cases=CASES):
            for case in group:
                count += 1
                tokens = len(case.grid)
                kept = parameters.kept(tokens)
                edges = pairs(case, parameters.alpha) > parameters.theta
                seen |= {
                    "all edges" if edges.all() else "some edges" if edges.any() else "no edges",
                    f"batch {len(case.features)}",
                    f"{case.importance.ndim - 2} heads dimension",
                    "all kept" if kept == tokens else "some kept",
                    "keep_permille" if parameters.keep_permille else "keep",
                    f"pivots block: {parameters.pivots_block and parameters.pivots(kept) > 0}",
                    f"{tokens} tokens" if tokens == 52 else "few tokens",
                }
    assert count >= 500
    assert seen == {
        *("batch 1", "batch 2", "batch 3"),
        *("0 heads dimension", "1 heads dimension"),
        *("all kept", "some kept", "keep_permille", "keep"),
        *("pivots block: True", "pivots block: False"),
        *("52 tokens", "few tokens"),
        *("no edges", "some edges", "all edges"),
    }


@pytest.mark.parametrize("flavour", ["plain", "exact", "NaN features", "huge and tiny vectors"])
def test_bfloat16_features_give_the_same_tokens(flavour: str) -> None:
    groups = sweep(seed=4, flavour=flavour, groups=4, cases=2)
    for opset, (parameters, group) in zip((17, 19, 22, 24), groups, strict=True):
        heads = group[0].importance.ndim == 3
        model = prune_model(parameters, opset, TensorProto.BFLOAT16, heads=heads)
        compute_in_float32(model)
        run = runner(model)
        for case in group:  # its features are whole numbers that bfloat16 has
            check(case, parameters, *run(case))


# --- Degenerate sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("heads", [False, True])
def test_no_tokens_is_no_error(opset: int, heads: bool) -> None:
    for parameters in (PruneParameters(keep=4), PruneParameters(keep_permille=1)):
        run = runner(prune_model(parameters, opset, TensorProto.FLOAT, heads=heads))
        shape = (2, 3, 0) if heads else (2, 0)
        empty = np.zeros(0, np.float32)
        kept, indices = run(
            Case(
                np.zeros((2, 0, 5), np.float32),
                np.zeros(shape, np.float32),
                empty,
                np.zeros((0, 2), np.float32),
            )
        )
        assert kept.shape == (2, 0, 5)
        assert indices.shape == (2, 0)
        assert indices.dtype == np.int32


def test_one_graph_takes_any_number_of_tokens_and_heads() -> None:
    parameters = PruneParameters(keep=6, theta=0.61234)
    run = runner(prune_model(parameters, 17, TensorProto.FLOAT))
    rng = np.random.default_rng(0)
    for batch, heads, tokens, channels in [
        (1, 1, 1, 4),
        (2, 3, 6, 2),
        (1, 16, 7, 1),
        (3, 2, 70, 8),
    ]:
        case = Case(
            rng.integers(-2, 3, (batch, tokens, channels)).astype(np.float32),
            rng.integers(0, 9, (batch, heads, tokens)).astype(np.float32),
            np.ones(tokens, np.float32),
            rng.integers(0, 5, (tokens, 2)).astype(np.float32),
        )
        check(case, parameters, *run(case))


def test_a_long_chain_is_walked_to_its_end() -> None:
    # Each token is the neighbour of the next alone: one round of the loop decides two of them.
    tokens = 300
    case = Case(
        np.ones((1, tokens, 1), np.float32),
        np.arange(tokens, 0, -1, dtype=np.float32)[None],
        np.ones(tokens, np.float32),
        np.stack([np.arange(tokens), np.zeros(tokens)], axis=1).astype(np.float32),
    )
    # Nearness of the next is 1 - 1/299 = 0.9967, of the one after it 0.9933.
    parameters = PruneParameters(keep=150, pivot_ratio=0, alpha=0, theta=0.995)
    _, indices = runner(prune_model(parameters, 17, TensorProto.FLOAT, heads=False))(case)
    assert indices.tolist() == [list(range(0, tokens, 2))]


@pytest.mark.parametrize("theta", [3e38, -3e38])
def test_a_theta_far_out_makes_all_neighbours_or_none(theta: float) -> None:
    ((_, (case,)),) = sweep(seed=5, flavour="NaN features", groups=1, cases=1)
    parameters = PruneParameters(keep=3, theta=theta)
    heads = case.importance.ndim == 3
    check(
        case,
        parameters,
        *runner(prune_model(parameters, 17, TensorProto.FLOAT, heads=heads))(case),
    )


# --- The model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_the_checker_has_no_objection(opset: int, heads: bool, dtype: int) -> None:
    model = prune_model(PruneParameters(keep_permille=250), opset, dtype, heads=heads)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {
        "": opset,
        DOMAIN: OP_VERSION,
    }
    assert [node.op_type for node in model.graph.node] == [OP_TYPE]
    assert model.graph.output[0].type.tensor_type.elem_type == dtype
    rank = len(model.graph.input[1].type.tensor_type.shape.dim)
    assert rank == (3 if heads else 2)


def test_the_node_carries_all_parameters() -> None:
    parameters = PruneParameters(
        keep=7, pivot_ratio=0.25, alpha=0.75, theta=-0.5, eps=0.125, pivots_block=True
    )
    (node,) = prune_model(parameters, 17, TensorProto.FLOAT).graph.node
    found = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    assert found == parameters.attributes()


# --- Defaults -----------------------------------------------------------------------------------

# `keep` has no default that is a parameter: one of it and keep_permille must be given.
DEFAULTS = PruneParameters(keep=1).attributes() | {"keep": 0}


def test_the_schema_has_the_defaults_of_the_parameters() -> None:
    register_schema()
    register_schema()  # a second time is no error
    schema = onnx.defs.get_schema(OP_TYPE, OP_VERSION, DOMAIN)
    assert schema.attributes.keys() == DEFAULTS.keys()
    for name, value in DEFAULTS.items():
        attribute = schema.attributes[name]
        assert not attribute.required
        default = helper.get_attribute_value(attribute.default_value)
        assert type(default) is type(value), name
        assert np.float32(default) == np.float32(value), name
    assert [value.name for value in schema.inputs] == ["features", "importance", "prior", "grid"]
    assert [value.name for value in schema.outputs] == ["kept", "indices"]


def test_the_function_has_the_defaults_of_the_parameters() -> None:
    function = prune_function(20)
    assert not function.attribute
    found = {entry.name: helper.get_attribute_value(entry) for entry in function.attribute_proto}
    assert found.keys() == DEFAULTS.keys()
    for name, value in DEFAULTS.items():
        assert type(found[name]) is type(value), name
        assert np.float32(found[name]) == np.float32(value), name
    assert {entry.domain: entry.version for entry in function.opset_import} == {"": 20}


def test_a_node_without_attributes_runs_with_the_defaults() -> None:
    ((_, (case,)),) = sweep(seed=6, flavour="plain", groups=1, cases=1)
    defaults = PruneParameters(keep=5)
    model = prune_model(defaults, 17, TensorProto.FLOAT, heads=case.importance.ndim == 3)
    (node,) = model.graph.node
    keep = next(entry for entry in node.attribute if entry.name == "keep")
    del node.attribute[:]
    node.attribute.append(keep)
    check(case, defaults, *runner(model)(case))
