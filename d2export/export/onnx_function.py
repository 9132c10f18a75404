"""The ops for ONNX: their schemas, and bodies in standard operators.

A body lets any ONNX runtime execute the op; what bodies share, and `D2Prune` for each image of
`D2PrunePositions`, they call. A runtime that has an op natively (the TensorRT plugin, the ONNX
Runtime library) uses its own and ignores the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Any

import onnx
from onnx import helper, parser

from d2export.export.ops import OPS, Op, Value
from d2export.pruning.parameters import DOMAIN, OP_TYPE, OP_VERSION

# What bodies share: functions of the same domain.
PARTS = {
    "TokenBudget": "token_budget.onnx.txt",
    "AllTokens": "all_tokens.onnx.txt",
    "ChosenTokens": "chosen_tokens.onnx.txt",
    "HeadMean": "head_mean.onnx.txt",
    "FiniteScores": "finite_scores.onnx.txt",
    "Descending": "descending.onnx.txt",
    "Directions": "directions.onnx.txt",
    "WholeDirections": "whole_directions.onnx.txt",
    "ElbowHead": "elbow_head.onnx.txt",
}
ELEMENT_TYPES = {
    "float": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
}
FEATURE_TYPES = ("float", "float16", "bfloat16")


def prune_function(opset: int, op_type: str = OP_TYPE) -> onnx.FunctionProto:
    """An op, or a shared part, as a model-local function for a model of that opset, 17 or above."""
    function = onnx.FunctionProto()
    function.CopyFrom(_parsed_body(op_type))
    for entry in function.opset_import:
        if entry.domain == "":
            entry.version = opset
    if op_type in OPS:
        op = OPS[op_type]
        function.ClearField("attribute")
        function.attribute.extend(op.required)
        function.attribute_proto.extend(_optional_attributes(op))
    return function


def prune_functions(opset: int, op_types: Iterable[str]) -> list[onnx.FunctionProto]:
    """The functions of ops and, before each, those that its body calls."""
    order = dict.fromkeys(name for op_type in op_types for name in _called_first(op_type))
    return [prune_function(opset, name) for name in order]


def prune_node(parameters: Any, op_type: str = OP_TYPE) -> onnx.NodeProto:
    """One node whose inputs and outputs carry the op's own names."""
    op = OPS[op_type]
    node = helper.make_node(op_type, op.input_names, op.output_names, domain=DOMAIN, name=op_type)
    for name, value in parameters.attributes().items():
        node.attribute.append(helper.make_attribute(name, value))
    return node


def prune_model(
    parameters: Any, opset: int, dtype: int, *, heads: bool = True, op_type: str = OP_TYPE
) -> onnx.ModelProto:
    """A model of the op alone: to time selection by itself, or behind somebody else's encoder.

    Args:
        parameters: of the op.
        dtype: ONNX element type of `features` and `kept`.
        heads: whether `importance` is `[B, H, N]` or `[B, N]`.
        op_type: the op, in `OPS`.
    """
    op = OPS[op_type]

    def info(value: Value) -> onnx.ValueInfoProto:
        shape = [size for size in value.shape if heads or size != "H"]
        shape = [parameters.max_keep if size == "K" else size for size in shape]
        return helper.make_tensor_value_info(
            value.name, ELEMENT_TYPES.get(value.type, dtype), shape
        )

    graph = helper.make_graph(
        [prune_node(parameters, op_type)],
        op_type.lower(),
        [info(value) for value in op.inputs],
        [info(value) for value in op.outputs],
    )
    model = helper.make_model(
        graph,
        functions=prune_functions(opset, [op_type]),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, OP_VERSION)],
        producer_name="d2export",
    )
    model.ir_version = min(model.ir_version, 10)  # what ONNX Runtime 1.20 still reads
    return model


@cache
def register_schema() -> None:
    """Make the ops known to the onnx package, so that graphs with them can be built and checked."""
    for op_type, op in OPS.items():
        if not onnx.defs.has(op_type, DOMAIN):
            onnx.defs.register_schema(_schema(op))


def _schema(op: Op) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    types = {
        value.type: FEATURE_TYPES if value.type == "T" else (value.type,)
        for value in (*op.inputs, *op.outputs)
    }

    def parameter(value: Value) -> Any:
        shape = ", ".join(map(str, value.shape))
        return schema.FormalParameter(value.name, value.type, f"[{shape}] {value.about}")

    return schema(
        op.op_type,
        DOMAIN,
        OP_VERSION,
        doc=op.about,
        inputs=[parameter(value) for value in op.inputs],
        outputs=[parameter(value) for value in op.outputs],
        type_constraints=[
            (name, [f"tensor({one})" for one in allowed], "") for name, allowed in types.items()
        ],
        attributes=[
            *(
                schema.Attribute(name, schema.AttrType.INT, "", required=True)
                for name in op.required
            ),
            *(schema.Attribute(entry.name, entry) for entry in _optional_attributes(op)),
        ],
    )


def _optional_attributes(op: Op) -> list[onnx.AttributeProto]:
    return [
        helper.make_attribute(name, value)
        for name, value in op.defaults().items()
        if name not in op.required
    ]


def _called_first(op_type: str) -> Iterator[str]:
    """What the body of an op calls, what these call before them, and the op last."""
    for name in _calls(_parsed_body(op_type).node):
        yield from _called_first(name)
    yield op_type


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        if node.domain == DOMAIN:
            yield node.op_type
        for attribute in node.attribute:
            yield from _calls(attribute.g.node)


@cache
def _parsed_body(op_type: str) -> onnx.FunctionProto:
    file = PARTS.get(op_type) or OPS[op_type].body
    return parser.parse_function(resources.files(__package__).joinpath(file).read_text("utf-8"))
