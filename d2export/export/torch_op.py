"""The ops for torch: custom ops that run in eager mode and survive tracing as one node each.

Each is `torch.ops.d2export.<op type>`: the tensors, then the attributes, in the order of its `Op`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from d2export.export.ops import CORRELATION_OP_TYPE, OPS, PADDED_OP_TYPE, Op
from d2export.pruning.parameters import DOMAIN, POSITIONS_OP_TYPE, PruneParameters
from d2export.pruning.rule_parameters import ElbowParameters
from d2export.pruning.rules import RULES, Rule, correlation, elbow
from d2export.pruning.sequence import surviving_positions


def prune(op_type: str, *inputs: Tensor, parameters: Any) -> tuple[Tensor, ...]:
    """Keep the tokens that a rule asks for.

    Args:
        op_type: of the rule, in `RULES`; or `ElbowPrunePadded`.
        inputs: features `[B, N, C]` float32, float16 or bfloat16, and what else the rule reads:
            importance `[B, N]` or `[B, H, N]`, prior `[N]`, grid `[N, 2]`, float32.
        parameters: of the rule.

    Returns:
        kept `[B, M, C]` of the features' dtype, and indices `[B, M]` int32, ascending; padded,
        also count `[1]` int32.
    """
    result: tuple[Tensor, ...] = overload(op_type)(*inputs, **parameters.attributes())
    return result


def prune_positions(
    hidden_states: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    visual_positions: Tensor,
    image_lengths: Tensor,
    parameters: PruneParameters,
) -> Tensor:
    """Positions of a prompt that stay, as `sequence.surviving_positions`: `[S]` int32."""
    tensors = (hidden_states, importance, prior, grid, visual_positions, image_lengths)
    result: Tensor = overload(POSITIONS_OP_TYPE)(*tensors, **parameters.attributes())
    return result


def correlated_positions(
    hidden_states: Tensor,
    attention: Tensor,
    visual_positions: Tensor,
    text_positions: Tensor,
    parameters: ElbowParameters,
) -> Tensor:
    """Positions of a prompt that stay, as `correlation.correlated_positions`: `[S]` int32."""
    tensors = (hidden_states, attention, visual_positions, text_positions)
    result: Tensor = overload(CORRELATION_OP_TYPE)(*tensors, **parameters.attributes())
    return result


def symbolic_kept(keep: int, keep_permille: int, tokens: int) -> int:
    """`Budget.kept`, for a symbolic number of tokens, too."""
    wanted = keep or torch.sym_max(1, tokens * keep_permille // 1000)
    kept: int = torch.sym_min(wanted, tokens)
    return kept


def overload(op_type: str) -> torch._ops.OpOverload:
    """What a traced program calls."""
    found: torch._ops.OpOverload = getattr(getattr(torch.ops, DOMAIN), op_type).default
    return found


# --- What an op does, and what shape that has -----------------------------------------------------


def _prune(rule: Rule, tensors: tuple[Tensor, ...], parameters: Any) -> tuple[Tensor, Tensor]:
    features = tensors[0]
    indices = rule.select(*tensors, parameters)
    rows = indices.long().unsqueeze(-1).expand(-1, -1, features.shape[2])
    return features.gather(1, rows), indices


def _prune_shapes(
    rule: Rule, tensors: tuple[Tensor, ...], attributes: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    features = tensors[0]
    batch, tokens, width = features.shape
    kept: int | torch.SymInt
    if rule.counted:
        kept = symbolic_kept(attributes["keep"], attributes["keep_permille"], tokens)
    else:
        kept = torch.library.get_ctx().new_dynamic_size()
    return (
        features.new_empty(batch, kept, width),
        features.new_empty(batch, kept, dtype=torch.int32),
    )


def _padded(
    tensors: tuple[Tensor, ...], parameters: ElbowParameters
) -> tuple[Tensor, Tensor, Tensor]:
    return elbow.padded(*_prune(RULES["ElbowPrune"], tensors, parameters), parameters)


def _padded_shapes(
    tensors: tuple[Tensor, ...], attributes: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    features, kept = tensors[0], attributes["max_keep"]
    return (
        features.new_empty(1, kept, features.shape[2]),
        features.new_empty(1, kept, dtype=torch.int32),
        features.new_empty(1, dtype=torch.int32),
    )


def _positions(tensors: tuple[Tensor, ...], parameters: PruneParameters) -> Tensor:
    hidden_states, importance, prior, grid, visual_positions, image_lengths = tensors
    return surviving_positions(
        hidden_states, importance, prior, grid, visual_positions, image_lengths, parameters
    )


def _positions_shape(tensors: tuple[Tensor, ...], attributes: dict[str, Any]) -> Tensor:
    hidden_states, *_, visual_positions, image_lengths = tensors
    tokens, images = visual_positions.shape[0], image_lengths.shape[0]
    keep, permille = attributes["keep"], attributes["keep_permille"]
    wanted = images * keep if keep else torch.sym_max(images, tokens * permille // 1000)
    kept = torch.sym_min(wanted, tokens)
    return hidden_states.new_empty(hidden_states.shape[1] - tokens + kept, dtype=torch.int32)


def _correlated(tensors: tuple[Tensor, ...], parameters: ElbowParameters) -> Tensor:
    hidden_states, attention, visual_positions, text_positions = tensors
    return correlation.correlated_positions(
        hidden_states.shape[1], attention, visual_positions, text_positions, parameters
    )


def _correlated_shape(tensors: tuple[Tensor, ...], attributes: dict[str, Any]) -> Tensor:
    surviving = torch.library.get_ctx().new_dynamic_size()
    return tensors[0].new_empty(surviving, dtype=torch.int32)


KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    **{
        rule.op_type: (partial(_prune, rule), partial(_prune_shapes, rule))
        for rule in RULES.values()
    },
    POSITIONS_OP_TYPE: (_positions, _positions_shape),
    CORRELATION_OP_TYPE: (_correlated, _correlated_shape),
    PADDED_OP_TYPE: (_padded, _padded_shapes),
}


# --- Registration ---------------------------------------------------------------------------------


def _register(op: Op, run: Callable[..., Any], shapes: Callable[..., Any]) -> None:
    types = {field.name: field.type for field in fields(op.parameters)}
    inputs = len(op.inputs)

    def kernel(*arguments: Any) -> Any:
        attributes = dict(zip(types, arguments[inputs:], strict=True))
        values = {name: bool(v) if types[name] == "bool" else v for name, v in attributes.items()}
        return run(arguments[:inputs], op.parameters(**values))

    def fake(*arguments: Any) -> Any:
        attributes = dict(zip(types, arguments[inputs:], strict=True))
        return shapes(arguments[:inputs], attributes)

    tensors = [f"Tensor {name}" for name in op.input_names]
    numbers = [f"{type(value).__name__} {name}" for name, value in op.defaults().items()]
    results = ", ".join("Tensor" for _ in op.outputs)
    name = f"{DOMAIN}::{op.op_type}"
    torch.library.define(
        name,
        f"({', '.join(tensors + numbers)}) -> ({results})",
        tags=torch.Tag.pt2_compliant_tag,
    )
    torch.library.impl(name, "default", kernel)
    torch.library.register_fake(name, fake)


for _op in OPS.values():
    _register(_op, *KERNELS[_op.op_type])
