"""The phases of the CUDA kernels of the rules besides D2Prune, on the host, through plain C."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import Structure, byref, c_float, c_int32, c_int64, c_void_p
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from d2export.pruning.rules import deduplicate, dpp, max_min
from d2export.pruning.selection import mean_over_heads
from tests.plugins.drivers import ORDERS, Drivers

DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # in the order of d2export::DataType
FUNCTIONS = {
    "MaxMinPrune": "d2export_run_max_min_phases",
    "DppPrune": "d2export_run_dpp_phases",
    "DeduplicatePrune": "d2export_run_deduplicate_phases",
}
REFERENCES: dict[str, Callable[..., Tensor]] = {
    "MaxMinPrune": max_min.reference,
    "DppPrune": dpp.reference,
    "DeduplicatePrune": deduplicate.reference,
}
C_TYPES = {"int": c_int64, "float": c_float}


class Shape(Structure):
    """`d2export::Shape`."""

    _fields_ = [(name, c_int32) for name in ("batch", "heads", "tokens", "channels")]


class Inputs(Structure):
    """`d2export::Inputs`."""

    _fields_ = [
        *((name, c_void_p) for name in ("features", "importance", "prior", "grid")),
        ("type", c_int32),
    ]


def attributes_of(parameters: Any) -> Structure:
    """A rule's parameters as the struct of their name in rule_parameters.h."""
    layout = [(field.name, C_TYPES[str(field.type)]) for field in fields(parameters)]
    struct = type("Attributes", (Structure,), {"_fields_": layout})
    made: Structure = struct(**parameters.attributes())
    return made


def run_phases(
    drivers: Drivers,
    op_type: str,
    features: Tensor,
    importance: Tensor | None,
    parameters: Any,
    blocks: int = 2,
    order: str = "forward",
) -> tuple[Tensor, Tensor]:
    """`(kept [B, M, C], indices [B, M])` by `blocks` of a grid, their threads in that order."""
    features = features.contiguous()
    scores = None if importance is None else importance.contiguous()
    batch, tokens, channels = features.shape
    heads = 1 if scores is None or scores.dim() == 2 else scores.shape[1]
    count = parameters.kept(tokens)
    kept = features.new_full((batch, count, channels), 7)
    indices = torch.full((batch, count), -7, dtype=torch.int32)
    function = getattr(drivers.library, FUNCTIONS[op_type])
    shape = Shape(batch, heads, tokens, channels)
    inputs = Inputs(
        features.data_ptr(),
        None if scores is None else scores.data_ptr(),
        None,
        None,
        DTYPES.index(features.dtype),
    )
    answer = function(
        byref(shape),
        byref(inputs),
        byref(attributes_of(parameters)),
        c_int32(blocks),
        c_int32(ORDERS.index(order)),
        c_void_p(kept.data_ptr()),
        c_void_p(indices.data_ptr()),
    )
    assert answer == count
    return kept, indices


def run_reference(
    op_type: str, features: Tensor, importance: Tensor | None, parameters: Any
) -> Tensor:
    """Indices `[B, M]` by the rule in torch, image by image."""
    reference = REFERENCES[op_type]
    if importance is None:
        return torch.stack([reference(image, parameters) for image in features])
    scores = mean_over_heads(importance)
    images = zip(features, scores, strict=True)
    return torch.stack([reference(image, row, parameters) for image, row in images])
