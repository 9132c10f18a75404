"""The module that becomes `decoder.onnx`: the language model with pruning before layer K."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2export.export.torch_op import correlated_positions, prune_positions
from d2export.models.decoder import DecoderLayer, KeyValue, LanguageModel, Rotation, causal_mask
from d2export.models.presets import TextSpec
from d2export.models.reading_ahead import rows_ahead
from d2export.pruning.importance import smoothed
from d2export.pruning.plan import Plan

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

    logits `[1, vocab]` of the last token, positions `[S]` that survive, keys and values of each
    layer: all tokens below layer K, the surviving ones from K on; and what was decided on: where a
    budget rules `pruning`, where correlation does `attention`, as `correlated_positions` takes it.
    """

    logits: Tensor
    positions: Tensor
    present: list[KeyValue]
    pruning: Pruning | None = None
    attention: Tensor | None = None


class DecoderModel(nn.Module):
    """The weights of the language model, under their canonical names."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.text = LanguageModel(spec)


class PrunedDecoder(nn.Module):
    """New tokens of one sequence in, the next token's logits out.

    Args:
        spec: the language model.
        plan: whether, before which layer, and how to prune. Visual tokens are pruned by the
            attention of the layer before, of the next ones, or both; prior source `shallow` takes
            that of layer 0 in the same call, which must lie below.
        tile_side: visual tokens along the side of a tile, for importance that is smoothed.
    """

    def __init__(self, spec: TextSpec, plan: Plan, tile_side: int = 0) -> None:
        super().__init__()
        self.model = DecoderModel(spec)
        self.plan = plan
        self.tile_side = tile_side

    def forward(
        self,
        input_ids: Tensor,
        image_embeds: Tensor,
        visual_positions: Tensor,
        position_ids: Tensor,
        past: Sequence[Tensor],
        image_lengths: Tensor | None = None,
        token_grid: Tensor | None = None,
        prior: Tensor | None = None,
        text_positions: Tensor | None = None,
    ) -> tuple[Tensor, ...] | tuple[Tensor, list[Tensor]] | tuple[Tensor, Tensor, list[Tensor]]:
        """`decode`, with keys and values as one list: those of layer 0, of layer 1, and so on.

        Without pruning there are no positions: all survive.
        """
        decoded = self.decode(
            input_ids,
            image_embeds,
            visual_positions,
            position_ids,
            [KeyValue(*pair) for pair in zip(past[::2], past[1::2], strict=True)],
            image_lengths,
            token_grid,
            prior,
            text_positions,
        )
        present = [part for kv in decoded.present for part in kv]
        if not self.plan.in_decoder:
            return decoded.logits, present
        return decoded.logits, decoded.positions, present

    def decode(
        self,
        input_ids: Tensor,
        image_embeds: Tensor,
        visual_positions: Tensor,
        position_ids: Tensor,
        past: list[KeyValue],
        image_lengths: Tensor | None = None,
        token_grid: Tensor | None = None,
        prior: Tensor | None = None,
        text_positions: Tensor | None = None,
    ) -> Decoded:
        """Prefill, decode, or a further turn of a conversation; without images nothing is pruned.

        Args:
            input_ids: `[1, T]` int64; at visual positions any id of the vocabulary.
            image_embeds: `[V, hidden]`, the visual tokens.
            visual_positions: `[V]` int64, ascending: where they go. The last token is text.
            position_ids: `[1, T]` int64.
            past: of each layer; those from K on remember the surviving tokens only.
            image_lengths: `[I]` int64, visual tokens of each image, or of each tile, that has a
                budget. Needed to prune with a budget.
            token_grid: `[V, 2]` float32, token centres on a canvas. Needed as above.
            prior: `[V]` float32, with prior source `file` only.
            text_positions: `[D]` int64, ascending: text that may be dropped by its correlation.
        """
        text, depth = self.model.text, self.plan.prune_layer
        layers = text.all_layers()
        states = text.embedding(input_ids).squeeze(0)
        states = states.index_put((visual_positions,), image_embeds).unsqueeze(0)
        rotation = text.rotation(position_ids)
        present: list[KeyValue] = []
        if depth is None:
            states = _run(layers, states, rotation, past, present)
            everything = torch.arange(input_ids.shape[1])
            return Decoded(text.logits(states[:, -1:])[:, 0], everything, present)

        given: list[Tensor] = []  # what each layer below K was given
        states = _run(layers[:depth], states, rotation, past[:depth], present, given)

        def attention_row(index: int) -> Tensor:
            """Of the last token over the new ones, `[1, heads, T]`."""
            row = layers[index].last_row(given[index], rotation, present[index])
            return row[:, :, past[index].key.shape[2] :]

        pruning, attention = None, None
        if self.plan.by_correlation:
            assert text_positions is not None
            last = torch.arange(input_ids.shape[1])[-1:]
            asking, below = torch.cat([text_positions, last]), depth - 1
            rows = layers[below].some_rows(given[below], rotation, present[below], asking)
            new = rows[..., past[below].key.shape[2] :]
            attention = (new.sum(dim=1) / new.shape[1])[0].index_select(1, visual_positions)
            positions = correlated_positions(
                states, attention, visual_positions, text_positions, self.plan.parameters
            )
        else:
            assert token_grid is not None
            assert image_lengths is not None
            if self.plan.reads_ahead:
                ahead = slice(depth, depth + self.plan.rows.ahead)
                # The last token reads once for each image: where there are none, in every step of
                # decoding, not at all.
                readers = states[:, -1:].expand(-1, image_lengths.shape[0], -1)
                found = rows_ahead(layers[ahead], states, readers, rotation, past[ahead])
                old = past[depth].key.shape[2]
                read = [row.sum(dim=2)[:, :, old:] for row in found]
                if self.plan.rows.below:
                    read.insert(0, attention_row(depth - 1))
                importance = self._smoothed(read, visual_positions)
            else:
                importance = attention_row(depth - 1)
            if self.plan.prior == "shallow":
                shallow = attention_row(SHALLOW_LAYER)
                prior = (shallow.sum(dim=1) / shallow.shape[1])[0].index_select(0, visual_positions)
            elif prior is None:
                prior = torch.ones_like(token_grid[:, 0])
            pruning = Pruning(
                states, importance, prior, token_grid, visual_positions, image_lengths
            )
            positions = prune_positions(*pruning, self.plan.parameters)

        states = states.index_select(1, positions)
        states = _run(layers[depth:], states, rotation.at(positions), past[depth:], present)
        return Decoded(text.logits(states[:, -1:])[:, 0], positions, present, pruning, attention)

    def _smoothed(self, rows: list[Tensor], visual_positions: Tensor) -> Tensor:
        """Importance of `d2+`, `[1, T]`, 0 for text; of rows `[1, heads, T]`."""
        visual = [row.index_select(2, visual_positions) for row in rows]
        importance = smoothed(visual, self.tile_side, self.plan.smoothing)
        nothing = torch.zeros(1, rows[0].shape[2])
        return nothing.scatter(1, visual_positions.unsqueeze(0), importance)


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
