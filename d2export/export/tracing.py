"""torch to ONNX without weights: modules are traced under fake tensors.

What comes out is float32 throughout, with initializers that have names and shapes but no values:
`weights.py` says where those lie and `precision.py` what type they are computed in.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import onnxscript
import torch
from onnxscript.optimizer import fold_constants
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from d2export.export.onnx_function import register_schema
from d2export.export.ops import OPS, Op
from d2export.export.opset import to_opset
from d2export.export.simplify import simplify
from d2export.export.torch_op import overload
from d2export.pruning.parameters import DOMAIN, OP_VERSION

TRACED_OPSET = 18  # the oldest that torch exports


def trace(
    make: Callable[[], tuple[nn.Module, dict[str, Any], dict[str, Any]]], name: str, opset: int
) -> ir.Model:
    """The graph of a module, simplified.

    Args:
        make: called under fake tensors; gives the module, its arguments by name, and for each the
            dimensions that are dynamic.
        name: of the graph.
        opset: of the model, 17 or above.
    """
    register_schema()
    with FakeTensorMode(allow_non_fake_inputs=True), _quiet_exporter():
        module, arguments, dimensions = make()
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=arguments,
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=max(opset, TRACED_OPSET),
            dynamic_shapes=dimensions,
            custom_translation_table={
                overload(op.op_type): _translation(op) for op in OPS.values()
            },
        )
    assert program is not None
    model = program.model
    model.graph.name = name
    model.producer_name, model.producer_version = "d2export", None
    for value in model.graph.initializers.values():
        value.const_value = None  # a fake tensor
    simplify(model)
    fold_constants(model, onnx_shape_inference=False)
    simplify(model)
    to_opset(model, opset)
    return model


def last_values(graph: ir.Graph, scopes: Mapping[str, str], without: str) -> dict[str, ir.Value]:
    """The last value that a submodule computes.

    Args:
        scopes: a name for the value, by the submodule's path.
        without: a method's name whose nodes do not count.
    """
    found: dict[str, ir.Value] = {}
    for node in graph:
        inside = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
        for scope, name in scopes.items():
            if f"'{scope}'" in inside and f"'{without}'" not in inside:
                found[name] = node.outputs[0]
    return found


def _translation(op: Op) -> Callable[..., Any]:
    inputs, names = len(op.inputs), list(op.defaults())

    def node(*arguments: Any, **attributes: Any) -> Any:
        positional = dict(zip(names, arguments[inputs:], strict=False))
        operator = getattr(onnxscript.values.Opset(DOMAIN, OP_VERSION), op.op_type)
        return operator(*arguments[:inputs], **positional, **attributes)

    return node


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns of torchvision, which is not needed, and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
