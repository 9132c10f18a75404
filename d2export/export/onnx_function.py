"""`D2Prune` and `D2PrunePositions` for ONNX: their schemas, and bodies in standard operators.

A body lets any ONNX runtime execute the op; that of `D2PrunePositions` calls `D2Prune` for each
image. A runtime that has an op natively (the TensorRT plugin, the ONNX Runtime library) uses its
own and ignores the body.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import onnx
from onnx import helper, parser

from d2export.pruning.parameters import (
    DOMAIN,
    OP_TYPE,
    OP_VERSION,
    POSITIONS_OP_TYPE,
    PruneParameters,
)

INPUTS = ("features", "importance", "prior", "grid")
OUTPUTS = ("kept", "indices")
POSITIONS_INPUTS = (
    "hidden_states",
    "importance",
    "prior",
    "grid",
    "visual_positions",
    "image_lengths",
)
BODIES = {OP_TYPE: "d2prune.onnx.txt", POSITIONS_OP_TYPE: "d2prune_positions.onnx.txt"}


def prune_function(opset: int, op_type: str = OP_TYPE) -> onnx.FunctionProto:
    """An op as a model-local function for a model of that opset, 17 or above."""
    function = onnx.FunctionProto()
    function.CopyFrom(_parsed_body(op_type))
    for entry in function.opset_import:
        if entry.domain == "":
            entry.version = opset
    function.ClearField("attribute")
    function.attribute_proto.extend(_default_attributes())
    return function


def prune_node(parameters: PruneParameters) -> onnx.NodeProto:
    """One `D2Prune` node whose inputs and outputs carry the op's own names."""
    node = helper.make_node(OP_TYPE, INPUTS, OUTPUTS, domain=DOMAIN, name=OP_TYPE)
    for name, value in parameters.attributes().items():
        node.attribute.append(helper.make_attribute(name, value))
    return node


def prune_model(
    parameters: PruneParameters, opset: int, dtype: int, *, heads: bool = True
) -> onnx.ModelProto:
    """A model of the op alone: to time selection by itself, or behind somebody else's encoder.

    Args:
        dtype: ONNX element type of `features` and `kept`.
        heads: whether `importance` is `[B, H, N]` or `[B, N]`.
    """
    floats, info = onnx.TensorProto.FLOAT, helper.make_tensor_value_info
    graph = helper.make_graph(
        [prune_node(parameters)],
        "d2prune",
        [
            info("features", dtype, ["B", "N", "C"]),
            info("importance", floats, ["B", "H", "N"] if heads else ["B", "N"]),
            info("prior", floats, ["N"]),
            info("grid", floats, ["N", 2]),
        ],
        [
            info("kept", dtype, ["B", "M", "C"]),
            info("indices", onnx.TensorProto.INT32, ["B", "M"]),
        ],
    )
    model = helper.make_model(
        graph,
        functions=[prune_function(opset)],
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, OP_VERSION)],
        producer_name="d2export",
    )
    model.ir_version = min(model.ir_version, 10)  # what ONNX Runtime 1.20 still reads
    return model


@cache
def register_schema() -> None:
    """Make the ops known to the onnx package, so that graphs with them can be built and checked."""
    parameter, types = onnx.defs.OpSchema.FormalParameter, onnx.defs.OpSchema.TypeConstraintParam
    features = types("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")
    floats, int32, int64 = (
        types(letter, [f"tensor({name})"], "")
        for letter, name in (("F", "float"), ("I", "int32"), ("L", "int64"))
    )
    scored = [
        parameter("importance", "F", "[B, N], or [B, H, N] per head"),
        parameter("prior", "F", "[N]"),
        parameter("grid", "F", "[N, 2] token centres on the image canvas"),
    ]
    schemas = {
        OP_TYPE: (
            "Keeps the visual tokens that D2Pruner selects (arXiv 2512.19443).",
            [parameter("features", "T", "[B, N, C] visual tokens"), *scored],
            [
                parameter("kept", "T", "[B, M, C], M = min(keep, N)"),
                parameter("indices", "I", "[B, M] ascending"),
            ],
            [features, floats, int32],
        ),
        POSITIONS_OP_TYPE: (
            "Positions of a prompt that stay: all text, and of each image what D2Prune keeps.",
            [
                parameter("hidden_states", "T", "[1, T, C] text and visual tokens"),
                parameter("importance", "F", "[1, T], or [1, H, T] per head"),
                *scored[1:],
                parameter("visual_positions", "L", "[V] ascending, image after image"),
                parameter("image_lengths", "L", "[I] visual tokens of each image"),
            ],
            [parameter("positions", "I", "[T - V + n] ascending, n = min(I * keep, V)")],
            [features, floats, int32, int64],
        ),
    }
    for op_type, (doc, inputs, outputs, constraints) in schemas.items():
        if not onnx.defs.has(op_type, DOMAIN):
            onnx.defs.register_schema(
                onnx.defs.OpSchema(
                    op_type,
                    DOMAIN,
                    OP_VERSION,
                    doc=doc,
                    inputs=inputs,
                    outputs=outputs,
                    type_constraints=[
                        (c.type_param_str, c.allowed_type_strs, c.description) for c in constraints
                    ],
                    attributes=[
                        onnx.defs.OpSchema.Attribute(attribute.name, attribute)
                        for attribute in _default_attributes()
                    ],
                )
            )


def _default_attributes() -> list[onnx.AttributeProto]:
    defaults = PruneParameters(keep=1).attributes() | {"keep": 0}
    return [helper.make_attribute(name, value) for name, value in defaults.items()]


@cache
def _parsed_body(op_type: str) -> onnx.FunctionProto:
    source = resources.files(__package__).joinpath(BODIES[op_type]).read_text("utf-8")
    return parser.parse_function(source)
