"""The decoder graph, traced: one graph for prefill and decode, pruning before layer K.

One graph, not two halves around the op: prefill and decode share its weights, and a sequence
without visual tokens passes the op unchanged.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.export import Dim

from d2export.export.ops import CORRELATION_OP_TYPE
from d2export.export.pruned_decoder import PrunedDecoder
from d2export.export.tracing import last_values, trace
from d2export.models.presets import TextSpec
from d2export.pruning.parameters import POSITIONS_OP_TYPE
from d2export.pruning.plan import Plan

# Sizes of the example that is traced: at least 2, and all different, so that none is taken for
# another or for a constant.
SEQUENCE, VISUAL, IMAGES, PAST_FULL, PAST_KEPT, WORDS = 23, 11, 3, 7, 5, 9


def trace_decoder(spec: TextSpec, plan: Plan, opset: int, tile_side: int = 0) -> ir.Model:
    """The decoder graph of a language model; inputs and outputs as in `PrunedDecoder.decode`.

    Keys and values are called `past_key_values.0.key` and so on before, `present.0.key` after the
    call, the outputs of the layers `layers.0`, `layers.1`, .... Where a budget rules, the op's
    second and third input are called `importance` and `prior`, and its first is the output of layer
    K - 1; where correlation rules, its second is `attention`. A decoder that does not prune has
    neither `positions` nor the inputs for it. `tile_side` as in `PrunedDecoder`.
    """
    depth = spec.layers if plan.prune_layer is None else plan.prune_layer

    def make() -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
        module = PrunedDecoder(spec, plan, tile_side)
        sequence, visual = Dim("sequence", min=1), Dim("visual_tokens", min=0)
        past = [Dim("past", min=0), Dim("past_kept", min=0)]
        caches = [index >= depth for index in range(spec.layers) for _ in "kv"]
        sizes = (PAST_FULL, PAST_KEPT)
        arguments: dict[str, Any] = {
            "input_ids": torch.zeros(1, SEQUENCE, dtype=torch.int64),
            "image_embeds": torch.zeros(VISUAL, spec.hidden),
            "visual_positions": torch.arange(VISUAL),
            "position_ids": torch.zeros(1, SEQUENCE, dtype=torch.int64),
            "past": [torch.zeros(1, spec.kv_heads, sizes[kept], spec.head_dim) for kept in caches],
        }
        dimensions: dict[str, Any] = {
            "input_ids": {1: sequence},
            "image_embeds": {0: visual},
            "visual_positions": {0: visual},
            "position_ids": {1: sequence},
            "past": [{2: past[kept]} for kept in caches],
        }
        if plan.by_correlation:
            arguments["text_positions"] = torch.arange(WORDS)
            dimensions["text_positions"] = {0: Dim("words", min=0)}
        elif plan.in_decoder:
            arguments["image_lengths"] = torch.zeros(IMAGES, dtype=torch.int64)
            dimensions["image_lengths"] = {0: Dim("images", min=0)}
            arguments["token_grid"] = torch.zeros(VISUAL, 2)
            dimensions["token_grid"] = {0: visual}
            if plan.prior == "file":
                arguments["prior"], dimensions["prior"] = torch.zeros(VISUAL), {0: visual}
        return module, arguments, dimensions

    model = trace(make, "decoder", opset)
    _name_values(model.graph, spec.layers, plan, depth)
    return model


def cache_names(layers: int, prefix: str) -> list[str]:
    """Names of the keys and values of each layer; `prefix` is `past_key_values` or `present`."""
    return [f"{prefix}.{index}.{part}" for index in range(layers) for part in ("key", "value")]


def _name_values(graph: ir.Graph, layers: int, plan: Plan, depth: int) -> None:
    before = [value for value in graph.inputs if (value.name or "").startswith("past")]
    for value, name in zip(before, cache_names(layers, "past_key_values"), strict=True):
        value.name = name
    answers = ["logits", *(["positions"] if plan.in_decoder else [])]
    for value, name in zip(graph.outputs, [*answers, *cache_names(layers, "present")], strict=True):
        value.name = name
    for value in graph.outputs[1 : len(answers)]:
        value.shape = ir.Shape(["surviving"])
    for index, value in enumerate(graph.outputs[len(answers) :]):
        assert value.shape is not None
        total = "total" if index < 2 * depth else "total_kept"
        value.shape = ir.Shape([*list(value.shape)[:2], total, value.shape[3]])
    scopes = {f"model.text.layers.{index}": f"layers.{index}" for index in range(layers)}
    for name, value in last_values(graph, scopes, without="attention").items():
        value.name = name
    for op in graph:
        if op.op_type == POSITIONS_OP_TYPE:
            for name, found in zip(("importance", "prior"), op.inputs[1:3], strict=True):
                assert found is not None
                found.name = name
        if op.op_type == CORRELATION_OP_TYPE and op.inputs[1] is not None:
            op.inputs[1].name = "attention"
