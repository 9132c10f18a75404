"""Attention of a prompt's last token in layers that have not run.

In the first of them it is what the layer itself will compute. To read another layer, the last token
goes through those before it alone, while all other tokens stay what they were: of these a layer
takes no more than keys and values, and the last layer keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from d2export.models.decoder import DecoderLayer, KeyValue, Rotation, rotate


def rows_ahead(
    layers: Sequence[DecoderLayer],
    states: Tensor,
    readers: Tensor,
    rotation: Rotation,
    past: Sequence[KeyValue],
) -> list[Tensor]:
    """What the last token attends to in each layer, `[B, heads, R, P + T]`.

    Args:
        layers: those that would run next, in their order.
        states: `[B, T, hidden]`, what the first of them will be given.
        readers: `[B, R, hidden]`, the states of the last tokens, each as often as one likes, also
            never.
        rotation: of the T new tokens.
        past: of each layer.
    """
    rows = []
    for layer, before in zip(layers, past, strict=True):
        attention, given = layer.attention, layer.norm1(states)
        key = torch.cat([before.key, rotate(attention.keys(given), rotation)], dim=2)
        row = attention.look(layer.norm1(readers), rotation.last(), key)
        rows.append(row)
        if layer is not layers[-1]:
            value = torch.cat([before.value, attention.values(given)], dim=2)
            readers = layer.behind(readers, attention.mix(row, value))
    return rows
