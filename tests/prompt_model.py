"""`D2PrunePositions` as an ONNX model."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from d2export.export.onnx_function import prune_functions, register_schema
from d2export.export.ops import POSITIONS
from d2export.pruning.parameters import DOMAIN, OP_VERSION, POSITIONS_OP_TYPE, PruneParameters


def model_of(
    parameters: PruneParameters, opset: int, heads: bool, dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A graph of the op alone, with its function; hidden_states are of type `dtype`."""
    register_schema()
    info, floats, longs = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.INT64
    node = helper.make_node(
        POSITIONS_OP_TYPE,
        POSITIONS.input_names,
        ["positions"],
        domain=DOMAIN,
        **parameters.attributes(),
    )
    graph = helper.make_graph(
        [node],
        "positions",
        [
            info("hidden_states", dtype, [1, "T", "C"]),
            info("importance", floats, [1, "H", "T"] if heads else [1, "T"]),
            info("prior", floats, ["V"]),
            info("grid", floats, ["V", 2]),
            info("visual_positions", longs, ["V"]),
            info("image_lengths", longs, ["I"]),
        ],
        [info("positions", TensorProto.INT32, ["S"])],
    )
    model = helper.make_model(
        graph,
        functions=prune_functions(opset, [POSITIONS_OP_TYPE]),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, OP_VERSION)],
    )
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model
