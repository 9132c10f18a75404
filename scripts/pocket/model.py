"""The pocket model as it is trained: the project's own modules, many questions about a picture at
once, and heads that only training needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2export.evaluation.scenes.questions import BINS, bin_text
from d2export.evaluation.scenes.shapes import COLOURS, LETTERS
from d2export.models.decoder import DecoderLayer, LanguageModel, Rotation, rotate
from d2export.models.presets import ModelSpec
from d2export.models.vision_tower import Layer, VisionModel
from pocket.batches import GRID, NOUNS, PATCH, Batch

# What a patch is asked: what covers it, if anything, its colour, size and letter, and its box.
DENSE = (len(NOUNS) + 1, len(COLOURS), 2, len(LETTERS), 4 * BINS)
BEFORE = "<|im_start|>user\n<img>"
AFTER = "</img>\n"
AMPLITUDE = 0.7  # of position embeddings at first
HEAT = 64  # channels that questions and patches are compared in
HEAT_LAYER = 2  # behind it, counted from 0: one layer is left to read what is there


@dataclass(frozen=True)
class Seen:
    """What a pass over a batch gives: states, and what the heads make of them.

    Attributes:
        patches: `[B, n, 192]`, of the last vision layer.
        tokens: `[B, n, hidden]`, visual tokens.
        logits: `[B, Q, L, vocab]`.
        heat: `[B, Q, L, n]`, logits of where the answer to each question is, at each of its tokens.
    """

    patches: Tensor
    tokens: Tensor
    logits: Tensor
    heat: Tensor


class TrainedModel(nn.Module):
    """Vision half, language model and the heads.

    Args:
        spec: the pocket model.
        before, after: ids of the tokens around a picture.
    """

    def __init__(self, spec: ModelSpec, before: list[int], after: list[int]) -> None:
        super().__init__()
        self.spec = spec
        self.vision = VisionModel(spec)
        self.text = LanguageModel(spec.text)
        width = spec.text.hidden
        self.dense = nn.Linear(spec.vision.hidden, sum(DENSE))
        self.heat_query = nn.Linear(width, HEAT)
        self.heat_key = nn.Linear(width, HEAT)
        self.likeness = nn.Parameter(torch.tensor(10.0))
        self.register_buffer("before", torch.tensor(before), persistent=False)
        self.register_buffer("after", torch.tensor(after), persistent=False)
        self.register_buffer("mean", torch.tensor(spec.vision.image.mean) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(spec.vision.image.std) * 255, persistent=False)

    def forward(self, batch: Batch) -> Seen:
        """One pass over a batch, without any pruning."""
        patches, tokens = self.see(batch.pixels, batch.places)
        b, n, _ = tokens.shape
        _, questions, length = batch.tokens.shape
        first = len(self.before)
        start = first + n + len(self.after)
        around = self.text.embedding(torch.cat([self.before, self.after])).expand(b, -1, -1)
        words = self.text.embedding(batch.tokens.flatten(1))
        states = torch.cat([around[:, :first], tokens, around[:, first:], words], dim=1)
        positions = self._positions(batch.places, questions, length)
        cos, sin = self._rotation(positions)
        causal = _mask(0, 1, start, states)
        mask = _mask(start, questions, length, states)
        heat = states
        for index, layer in enumerate(self.text.all_layers()):
            states = _decoder_layer(layer, states, cos, sin, causal, mask)
            if index == HEAT_LAYER:
                query, key = self.heat_query(states[:, start:]), states[:, first : first + n]
                heat = query @ self.heat_key(key).transpose(1, 2) / HEAT**0.5
        shape = (questions, length)
        logits = self.text.logits(states[:, start:]).unflatten(1, shape)
        return Seen(patches, tokens, logits, heat.unflatten(1, shape))

    def see(self, pixels: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """States of the patches, and the visual tokens, of pictures on the canvas."""
        tower = self.vision.tower
        weight = tower.patch_embedding.weight
        colours = ((pixels - self.mean) / self.std).to(weight.dtype)
        b, side = colours.shape[:2]
        cells = side // PATCH
        patches = colours.view(b, cells, PATCH, cells, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
        states = functional.linear(
            patches.reshape(b, cells * cells, -1), weight.flatten(1), tower.patch_embedding.bias
        )
        table = tower.position_embedding
        states = torch.cat(
            [(tower.cls_token + table[0]).expand(b, 1, -1), states + table[1 + places]], dim=1
        )
        for layer in tower.layers:
            states = _vision_layer(layer, states)
        states = states[:, 1:]
        return states, self.vision.projector(states)

    def _positions(self, places: Tensor, questions: int, length: int) -> Tensor:
        """`[B, T]`: those that an ordinary prompt has; a smaller picture leaves gaps."""
        b, first = len(places), len(self.before)
        end = first + GRID * GRID
        start = end + len(self.after)
        device = places.device
        counted = torch.arange(start + length, device=device).expand(b, -1)
        asked = counted[:, start:].repeat(1, questions)
        return torch.cat([counted[:, :first], first + places, counted[:, end:start], asked], dim=1)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions.float().unsqueeze(2) * self.text.inverse_frequencies.float()
        angles = torch.cat([angles, angles], dim=2).unsqueeze(1)
        dtype = self.text.embedding.weight.dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)


def initialise(model: TrainedModel, tokenizer_ids: dict[str, int], seed: int) -> None:
    """Random weights; positions and coordinates as sines and cosines, so that order is known."""
    random = torch.Generator().manual_seed(seed)
    depth = model.spec.text.layers
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name == "likeness":
                continue
            if weight.dim() >= 2 and not name.endswith("position_embedding"):
                fan = weight[0].numel() if "embedding.weight" not in name else 2500
                weight.normal_(0, fan**-0.5, generator=random)
                if name.endswith(("attention.out.weight", "mlp.down.weight")):
                    weight /= (2 * depth) ** 0.5
            elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "scale1", "scale2")):
                weight.fill_(1)
            else:
                weight.zero_()
        table = model.vision.tower.position_embedding
        table[1:] = AMPLITUDE * _places(table.shape[1])
        model.vision.tower.cls_token.normal_(0, 0.02, generator=random)
        rows = [tokenizer_ids[bin_text(index)] for index in range(BINS)]
        waves = _waves(torch.arange(BINS) / BINS, model.spec.text.hidden)
        model.text.embedding.weight[rows] += 0.05 * waves
        if model.text.head is not None:
            model.text.head.weight[rows] += 0.05 * waves


def _places(width: int) -> Tensor:
    """`[256, width]`: half of the channels for the row, half for the column."""
    side = torch.arange(GRID) / GRID
    waves = _waves(side, width // 2)
    rows, columns = waves[:, None].expand(-1, GRID, -1), waves[None].expand(GRID, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _waves(at: Tensor, width: int) -> Tensor:
    """`[n, width]`: sines and cosines from half a turn over the range to one of two cells."""
    turns = torch.logspace(math.log10(math.pi / 2), math.log10(math.pi * GRID / 2), width // 2)
    return torch.cat([(at[:, None] * turns).sin(), (at[:, None] * turns).cos()], dim=1)


def _mask(start: int, questions: int, length: int, like: Tensor) -> Tensor:
    """`[Q L, T]`, 0 or -inf: a question's token sees the picture and its question so far."""
    at = torch.arange(start + questions * length, device=like.device)
    block = torch.where(at < start, -1, (at - start) // length)
    rows, mine = at[start:, None], block[start:, None]
    seen = (block == -1) | ((mine == block) & (rows >= at))
    return torch.zeros_like(seen, dtype=like.dtype).masked_fill(~seen, -torch.inf)


def _mixed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention in the open: twice as fast as the fused one on a CPU in bfloat16."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    return (scores if mask is None else scores + mask).softmax(dim=-1) @ value


def _joined(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Several linear layers on the same input, as one product."""
    weight = torch.cat([layer.weight for layer in layers])
    biases = [layer.bias for layer in layers]
    bias = None if biases[0] is None else torch.cat(biases)
    return functional.linear(x, weight, bias).split([len(layer.weight) for layer in layers], -1)


def _vision_layer(layer: Layer, states: Tensor) -> Tensor:
    attention = layer.attention
    parts = _joined(layer.norm1(states), attention.q, attention.k, attention.v)
    query, key, value = (part.unflatten(2, (attention.heads, -1)).transpose(1, 2) for part in parts)
    mixed = _mixed(query, key, value)
    states = states + attention.out(mixed.transpose(1, 2).flatten(2)) * layer.scale1
    return states + layer.mlp(layer.norm2(states)) * layer.scale2


def _decoder_layer(
    layer: DecoderLayer, states: Tensor, cos: Tensor, sin: Tensor, causal: Tensor, mask: Tensor
) -> Tensor:
    attention = layer.attention
    normed = _rms_norm(layer.norm1, states)
    parts = _joined(normed, attention.q, attention.k, attention.v)
    query, key, value = (
        part.unflatten(2, (-1, attention.head_dim)).transpose(1, 2) for part in parts
    )
    query, key = rotate(query, Rotation(cos, sin)), rotate(key, Rotation(cos, sin))
    start = mask.shape[1] - mask.shape[0]
    picture = [part[:, :, :start] for part in (query, key, value)]
    mixed = torch.cat(
        [_mixed(*picture, causal), _mixed(query[:, :, start:], key, value, mask)], dim=2
    )
    states = states + attention.out(mixed.transpose(1, 2).flatten(2))
    gate, up = _joined(_rms_norm(layer.norm2, states), layer.mlp.gate, layer.mlp.up)
    return states + layer.mlp.down(functional.silu(gate) * up)


def _rms_norm(norm: nn.Module, x: Tensor) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), norm.weight, norm.eps)
