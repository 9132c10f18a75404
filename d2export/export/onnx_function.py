"""`D2Prune` for ONNX: its schema, and its body in standard operators.

The body lets any ONNX runtime execute the op. A runtime that has the op natively (the TensorRT
plugin, the ONNX Runtime library) uses its own and ignores the body.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import onnx
from onnx import helper, parser

from d2export.pruning.parameters import DOMAIN, OP_TYPE, OP_VERSION, PruneParameters

INPUTS = ("features", "importance", "prior", "grid")
OUTPUTS = ("kept", "indices")


def prune_function(opset: int) -> onnx.FunctionProto:
    """The op as a model-local function for a model of that opset, 17 or above."""
    function = onnx.FunctionProto()
    function.CopyFrom(_parsed_body())
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
    """Make the op known to the onnx package, so that graphs with it can be built and checked."""
    if onnx.defs.has(OP_TYPE, DOMAIN):
        return
    parameter = onnx.defs.OpSchema.FormalParameter
    onnx.defs.register_schema(
        onnx.defs.OpSchema(
            OP_TYPE,
            DOMAIN,
            OP_VERSION,
            doc="Keeps the visual tokens that D2Pruner selects (arXiv 2512.19443).",
            inputs=[
                parameter("features", "T", "[B, N, C] visual tokens"),
                parameter("importance", "F", "[B, N], or [B, H, N] per head"),
                parameter("prior", "F", "[N]"),
                parameter("grid", "F", "[N, 2] token centres on the image canvas"),
            ],
            outputs=[
                parameter("kept", "T", "[B, M, C], M = min(keep, N)"),
                parameter("indices", "I", "[B, M] ascending"),
            ],
            type_constraints=[
                ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], ""),
                ("F", ["tensor(float)"], ""),
                ("I", ["tensor(int32)"], ""),
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
def _parsed_body() -> onnx.FunctionProto:
    source = resources.files(__package__).joinpath("d2prune.onnx.txt").read_text("utf-8")
    return parser.parse_function(source)
