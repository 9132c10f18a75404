"""The pruning ops as data: schemas, functions, torch ops and translations are made from it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from d2export.pruning.parameters import OP_TYPE, POSITIONS_OP_TYPE, PruneParameters
from d2export.pruning.rule_parameters import ElbowParameters
from d2export.pruning.rules import RULES

PADDED_OP_TYPE = "ElbowPrunePadded"
CORRELATION_OP_TYPE = "CorrelationPrunePositions"


class Value(NamedTuple):
    """An input or output: its ONNX type (`T` is that of the features), its shape, its meaning."""

    name: str
    type: str
    shape: tuple[str | int, ...]
    about: str


@dataclass(frozen=True)
class Op:
    """One op.

    Attributes:
        op_type: its name in the ONNX domain and, for torch, in the namespace `d2export`.
        about: one sentence for its schema.
        inputs: in order; an axis `H` in a shape may be left out.
        outputs: in order.
        parameters: dataclass of its attributes, with their defaults.
        body: file of its ONNX function, beside this module.
        required: attributes whose default is no answer.
    """

    op_type: str
    about: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    parameters: type
    body: str
    required: tuple[str, ...] = ()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(value.name for value in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(value.name for value in self.outputs)

    def defaults(self) -> dict[str, int | float]:
        """Attributes by name, in order: ints and floats only, as `parameters` gives them."""
        given: dict[str, Any] = {field.name: field.default for field in fields(self.parameters)}
        return {
            field.name: (float if field.type == "float" else int)(given[field.name])
            for field in fields(self.parameters)
        }


FEATURES = Value("features", "T", ("B", "N", "C"), "visual tokens")
BESIDE_FEATURES = {
    "importance": Value("importance", "float", ("B", "H", "N"), "per head, or without that axis"),
    "prior": Value("prior", "float", ("N",), "what importance is divided by"),
    "grid": Value("grid", "float", ("N", 2), "token centres on the image canvas"),
}
KEPT = (
    Value("kept", "T", ("B", "M", "C"), "the tokens that stay"),
    Value("indices", "int32", ("B", "M"), "where they were, ascending"),
)

BODIES = {
    OP_TYPE: "d2prune.onnx.txt",
    "MaxMinPrune": "max_min_prune.onnx.txt",
    "DppPrune": "dpp_prune.onnx.txt",
    "DeduplicatePrune": "deduplicate_prune.onnx.txt",
    "DartPrune": "dart_prune.onnx.txt",
    "ElbowPrune": "elbow_prune.onnx.txt",
}

POSITIONS = Op(
    POSITIONS_OP_TYPE,
    "Positions of a prompt that stay: all text, and of each image what D2Prune keeps.",
    (
        Value("hidden_states", "T", (1, "T", "C"), "text and visual tokens"),
        Value("importance", "float", (1, "H", "T"), "per head, or without that axis"),
        Value("prior", "float", ("V",), "what importance is divided by"),
        Value("grid", "float", ("V", 2), "token centres on the canvas of their image"),
        Value("visual_positions", "int64", ("V",), "ascending, image after image"),
        Value("image_lengths", "int64", ("I",), "visual tokens of each image"),
    ),
    (Value("positions", "int32", ("S",), "T - V + n ascending, n = min(I * keep, V)"),),
    PruneParameters,
    "d2prune_positions.onnx.txt",
)

CORRELATION = Op(
    CORRELATION_OP_TYPE,
    "Positions of a prompt that stay: all but visual tokens and words of low correlation.",
    (
        Value("hidden_states", "T", (1, "T", "C"), "text and visual tokens"),
        Value("attention", "float", ("R", "V"), "of D words and the last token, mean over heads"),
        Value("visual_positions", "int64", ("V",), "ascending, image after image"),
        Value("text_positions", "int64", ("D",), "ascending, words that may be dropped"),
    ),
    (Value("positions", "int32", ("S",), "ascending"),),
    ElbowParameters,
    "correlation_prune_positions.onnx.txt",
)

PADDED = Op(
    PADDED_OP_TYPE,
    "What ElbowPrune keeps, padded to max_keep tokens, for engines that want fixed shapes.",
    (FEATURES, BESIDE_FEATURES["importance"]),
    (
        Value("kept", "T", (1, "K", "C"), "the tokens that stay, then zeros: K = max_keep"),
        Value("indices", "int32", (1, "K"), "where they were, ascending, then -1"),
        Value("count", "int32", (1,), "how many stay"),
    ),
    ElbowParameters,
    "elbow_prune_padded.onnx.txt",
    required=("max_keep",),
)

OPS = {
    rule.op_type: Op(
        rule.op_type,
        rule.about,
        (FEATURES, *(BESIDE_FEATURES[name] for name in rule.inputs)),
        KEPT,
        rule.parameters,
        BODIES[rule.op_type],
    )
    for rule in RULES.values()
} | {op.op_type: op for op in (POSITIONS, CORRELATION, PADDED)}
