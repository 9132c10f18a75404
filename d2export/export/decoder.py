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

from d2export.export.ops import POSITIONS
from d2export.export.pruned_decoder import PrunedDecoder
from d2export.export.tracing import last_values, trace
from d2export.models.presets import TextSpec
from d2export.pruning.parameters import POSITIONS_OP_TYPE, PruneParameters

# Sizes of the example that is traced: at least 2, and all different, so that none is taken for
# another or for a constant.
SEQUENCE, VISUAL, IMAGES, PAST_FULL, PAST_KEPT = 23, 11, 3, 7, 5


def trace_decoder(
    spec: TextSpec, parameters: PruneParameters, *, prune_layer: int, prior: str, opset: int
) -> ir.Model:
    """The decoder graph of a language model; inputs and outputs as in `PrunedDecoder.decode`.

    Keys and values are called `past_key_values.0.key` and so on before, `present.0.key` after the
    call. The outputs of the layers are called `layers.0`, `layers.1`, ..., and the op's second and
    third input `importance` and `prior`; its first is the output of layer K - 1.

    Args:
        prior: `none`, `file` or `shallow`.
    """

    def make() -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
        module = PrunedDecoder(spec, parameters, prune_layer, prior)
        sequence, visual = Dim("sequence", min=1), Dim("visual_tokens", min=0)
        past = [Dim("past", min=0), Dim("past_kept", min=0)]
        caches = [index >= prune_layer for index in range(spec.layers) for _ in "kv"]
        sizes = (PAST_FULL, PAST_KEPT)
        arguments: dict[str, Any] = {
            "input_ids": torch.zeros(1, SEQUENCE, dtype=torch.int64),
            "image_embeds": torch.zeros(VISUAL, spec.hidden),
            "visual_positions": torch.arange(VISUAL),
            "image_lengths": torch.zeros(IMAGES, dtype=torch.int64),
            "token_grid": torch.zeros(VISUAL, 2),
            "position_ids": torch.zeros(1, SEQUENCE, dtype=torch.int64),
            "past": [torch.zeros(1, spec.kv_heads, sizes[kept], spec.head_dim) for kept in caches],
        }
        dimensions: dict[str, Any] = {
            "input_ids": {1: sequence},
            "image_embeds": {0: visual},
            "visual_positions": {0: visual},
            "image_lengths": {0: Dim("images", min=0)},
            "token_grid": {0: visual},
            "position_ids": {1: sequence},
            "past": [{2: past[kept]} for kept in caches],
        }
        if prior == "file":
            arguments["prior"], dimensions["prior"] = torch.zeros(VISUAL), {0: visual}
        return module, arguments, dimensions

    model = trace(make, "decoder", opset)
    _name_values(model.graph, spec.layers, prune_layer)
    return model


def cache_names(layers: int, prefix: str) -> list[str]:
    """Names of the keys and values of each layer; `prefix` is `past_key_values` or `present`."""
    return [f"{prefix}.{index}.{part}" for index in range(layers) for part in ("key", "value")]


def _name_values(graph: ir.Graph, layers: int, prune_layer: int) -> None:
    before = [value for value in graph.inputs if (value.name or "").startswith("past")]
    for value, name in zip(before, cache_names(layers, "past_key_values"), strict=True):
        value.name = name
    outputs = ["logits", "positions", *cache_names(layers, "present")]
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name
    graph.outputs[1].shape = ir.Shape(["surviving"])
    for index, value in enumerate(graph.outputs[2:]):
        assert value.shape is not None
        total = "total" if index < 2 * prune_layer else "total_kept"
        value.shape = ir.Shape([*list(value.shape)[:2], total, value.shape[3]])
    scopes = {f"model.text.layers.{index}": f"layers.{index}" for index in range(layers)}
    for name, value in last_values(graph, scopes, without="attention").items():
        value.name = name
    op = next(node for node in graph if node.op_type == POSITIONS_OP_TYPE)
    for name, found in zip(POSITIONS.input_names[1:3], op.inputs[1:3], strict=True):
        assert found is not None
        found.name = name
