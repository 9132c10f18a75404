"""The module that becomes `decoder.onnx`: the language model with pruning before layer K."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2export.export.torch_op import prune_positions
from d2export.models.decoder import DecoderLayer, KeyValue, LanguageModel, Rotation, causal_mask
from d2export.models.presets import TextSpec
from d2export.pruning.parameters import PruneParameters

SHALLOW_LAYER = 0  # whose attention stands in for a prior, with prior source "shallow"


class Pruning(NamedTuple):
    """The op's inputs, in its order: what the surviving positions are decided from."""

    hidden_states: Tensor
    importance: Tensor
    prior: Tensor
    grid: Tensor
    visual_positions: Tensor
    image_lengths: Tensor


class Decoded(NamedTuple):
    """What one call of the decoder answers.

    logits `[1, vocab]` of the last token, positions `[S]` int32 that survive, keys and values of
    each layer: all tokens below layer K, the surviving ones from K on; and what was decided on.
    """

    logits: Tensor
    positions: Tensor
    present: list[KeyValue]
    pruning: Pruning


class DecoderModel(nn.Module):
    """The weights of the language model, under their canonical names."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.text = LanguageModel(spec)


class PrunedDecoder(nn.Module):
    """New tokens of one sequence in, the next token's logits out.

    Args:
        spec: the language model.
        parameters: how to prune.
        prune_layer: K, counted from 0; visual tokens are pruned before it, by the attention of
            layer K - 1. 1 to `spec.layers - 1`; above 1 for prior "shallow".
        prior: what importance is divided by: `none`, `file` (an input), or `shallow`, the
            attention of layer 0 in the same call.
    """

    def __init__(
        self, spec: TextSpec, parameters: PruneParameters, prune_layer: int, prior: str
    ) -> None:
        super().__init__()
        self.model = DecoderModel(spec)
        self.parameters_of_op = parameters
        self.prune_layer = prune_layer
        self.prior_source = prior

    def forward(
        self,
        input_ids: Tensor,
        image_embeds: Tensor,
        visual_positions: Tensor,
        image_lengths: Tensor,
        token_grid: Tensor,
        position_ids: Tensor,
        past: Sequence[Tensor],
        prior: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`decode`, with keys and values as one list: those of layer 0, of layer 1, and so on."""
        before = [KeyValue(*pair) for pair in zip(past[::2], past[1::2], strict=True)]
        decoded = self.decode(
            input_ids,
            image_embeds,
            visual_positions,
            image_lengths,
            token_grid,
            position_ids,
            before,
            prior,
        )
        return decoded.logits, decoded.positions, [part for kv in decoded.present for part in kv]

    def decode(
        self,
        input_ids: Tensor,
        image_embeds: Tensor,
        visual_positions: Tensor,
        image_lengths: Tensor,
        token_grid: Tensor,
        position_ids: Tensor,
        past: list[KeyValue],
        prior: Tensor | None = None,
    ) -> Decoded:
        """Prefill, decode, or a further turn of a conversation; without images nothing is pruned.

        Args:
            input_ids: `[1, T]` int64; at visual positions any id of the vocabulary.
            image_embeds: `[V, hidden]`, the visual tokens.
            visual_positions: `[V]` int64, ascending: where they go. The last token is text.
            image_lengths: `[I]` int64, visual tokens of each image.
            token_grid: `[V, 2]` float32, token centres, each on the canvas of its own image.
            position_ids: `[1, T]` int64.
            past: of each layer; those from K on remember the surviving tokens only.
            prior: `[V]` float32, with prior source `file` only.
        """
        text, depth = self.model.text, self.prune_layer
        layers = text.all_layers()
        states = text.embedding(input_ids).squeeze(0)
        states = states.index_put((visual_positions,), image_embeds).unsqueeze(0)
        rotation = text.rotation(position_ids)

        given: list[Tensor] = []  # what each layer below K was given
        present: list[KeyValue] = []
        states = _run(layers[:depth], states, rotation, past[:depth], present, given)

        def attention_row(index: int) -> Tensor:
            """Of the last token over the new ones, `[1, heads, T]`."""
            row = layers[index].last_row(given[index], rotation, present[index])
            return row[:, :, past[index].key.shape[2] :]

        importance = attention_row(depth - 1)
        if self.prior_source == "shallow":
            shallow = attention_row(SHALLOW_LAYER)
            prior = (shallow.sum(dim=1) / shallow.shape[1])[0].index_select(0, visual_positions)
        elif prior is None:
            prior = torch.ones_like(token_grid[:, 0])
        pruning = Pruning(states, importance, prior, token_grid, visual_positions, image_lengths)
        positions = prune_positions(*pruning, self.parameters_of_op)

        states = states.index_select(1, positions)
        states = _run(layers[depth:], states, rotation.at(positions), past[depth:], present)
        return Decoded(text.logits(states[:, -1:])[:, 0], positions, present, pruning)


def _run(
    layers: list[DecoderLayer],
    states: Tensor,
    rotation: Rotation,
    past: list[KeyValue],
    present: list[KeyValue],
    given: list[Tensor] | None = None,
) -> Tensor:
    """Run layers one after the other; what they remember, and were given, goes into the lists."""
    mask = causal_mask(states.shape[1], past[0].key.shape[2], states)
    for layer, before in zip(layers, past, strict=True):
        if given is not None:
            given.append(states)
        states, after = layer(states, rotation, mask, before)
        present.append(after)
    return states
