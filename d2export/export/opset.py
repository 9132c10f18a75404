"""Opset 17, which TensorRT 8.6 reads: torch exports 18 and above.

Between the two the graphs here differ in two operators only. Reductions other than ReduceSum have
their axes as an attribute in 17, and Split divides evenly by itself.
"""

from __future__ import annotations

import onnx_ir as ir

REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceMin"}


def to_opset(model: ir.Model, opset: int) -> None:
    """Make `model`, traced at `max(opset, 18)`, one of that opset."""
    model.opset_imports[""] = opset
    if opset >= 18:
        return
    for node in model.graph:
        if node.op_type in REDUCTIONS and len(node.inputs) == 2:
            axes = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
            assert axes is not None, f"{node.op_type} with computed axes is not in opset {opset}"
            node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().tolist())
            node.resize_inputs(1)
            node.attributes.pop("noop_with_empty_axes", None)
        elif node.op_type == "Split":
            node.attributes.pop("num_outputs", None)
