"""Llama, Qwen2 and InternLM2 in torch: one architecture, whose few switches `TextSpec` holds.

Equal to the classes in transformers (`tests/models/test_decoder.py`), and written so that tracing
gives a plain graph: no cache object, no mask from outside, one sequence at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2export.models.presets import TextSpec


class KeyValue(NamedTuple):
    """What a layer remembers of the tokens so far: keys and values `[1, kv_heads, P, head_dim]`."""

    key: Tensor
    value: Tensor


class Rotation(NamedTuple):
    """Cosines and sines of rotary positions, `[1, 1, T, head_dim]` float32."""

    cos: Tensor
    sin: Tensor

    def at(self, positions: Tensor) -> Rotation:
        """The rotation of the tokens at these places of the sequence."""
        return Rotation(self.cos.index_select(2, positions), self.sin.index_select(2, positions))

    def last(self) -> Rotation:
        """The rotation of the last token."""
        return Rotation(self.cos[:, :, -1:], self.sin[:, :, -1:])


class LanguageModel(nn.Module):
    """A decoder-only transformer: token embeddings, layers, final norm and output head."""

    inverse_frequencies: Tensor

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.vocab, spec.hidden)
        self.layers = nn.ModuleList(DecoderLayer(spec) for _ in range(spec.layers))
        self.norm = RMSNorm(spec.hidden, spec.norm_eps)
        self.head = None if spec.tied else nn.Linear(spec.hidden, spec.vocab, bias=False)
        self.register_buffer("inverse_frequencies", inverse_frequencies(spec), persistent=False)

    def rotation(self, position_ids: Tensor) -> Rotation:
        """Rotary positions of tokens with these ids, `[1, T]` int64."""
        angles = position_ids.float().unsqueeze(2) * self.inverse_frequencies
        angles = torch.cat([angles, angles], dim=2).unsqueeze(1)
        return Rotation(angles.cos(), angles.sin())

    def logits(self, states: Tensor) -> Tensor:
        """`[1, T, hidden]` to `[1, T, vocab]`."""
        states = self.norm(states)
        if self.head is None:
            return functional.linear(states, self.embedding.weight)
        return cast("Tensor", self.head(states))

    def all_layers(self) -> list[DecoderLayer]:
        """The layers, from the embeddings up."""
        return list(cast("Iterable[DecoderLayer]", self.layers))


class DecoderLayer(nn.Module):
    """Causal attention and gated MLP, each behind an RMSNorm."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.norm1 = RMSNorm(spec.hidden, spec.norm_eps)
        self.attention = CausalAttention(spec)
        self.norm2 = RMSNorm(spec.hidden, spec.norm_eps)
        self.mlp = GatedMLP(spec)

    def forward(
        self, states: Tensor, rotation: Rotation, mask: Tensor, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        """New states `[1, T, hidden]`, and keys and values of past and new tokens.

        Args:
            states: `[1, T, hidden]`.
            rotation: of the T new tokens.
            mask: `[T, P + T]` float, 0 where a token may look and -inf where not.
            past: of the P tokens before.
        """
        attended, present = self.attention(self.norm1(states), rotation, mask, past)
        return self.behind(states, attended), present

    def behind(self, states: Tensor, attended: Tensor) -> Tensor:
        """`[B, T, hidden]`: states behind the layer, from those before and what attention gave."""
        states = states + attended
        return states + cast("Tensor", self.mlp(self.norm2(states)))

    def last_row(self, states: Tensor, rotation: Rotation, present: KeyValue) -> Tensor:
        """`[1, heads, P + T]`: what the last of the T tokens attends to; no other row is computed.

        Args:
            states: `[1, T, hidden]`, what `forward` was given.
            present: what `forward` returned.
        """
        return self.attention.row(self.norm1(states[:, -1:]), rotation.last(), present.key)

    def some_rows(
        self, states: Tensor, rotation: Rotation, present: KeyValue, rows: Tensor
    ) -> Tensor:
        """`[1, heads, R, P + T]`: what some of the T tokens attend to.

        Args:
            states, present: as in `last_row`.
            rows: `[R]` int64, which of the T tokens.
        """
        given = self.norm1(states.index_select(1, rows))
        before = present.key.shape[2] - states.shape[1]
        return self.attention.rows(given, rotation.at(rows), present.key, before + rows)


class CausalAttention(nn.Module):
    """Grouped-query attention with rotary positions over past and new tokens."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = spec.heads, spec.kv_heads, spec.head_dim
        self.fused = spec.fused_qkv
        if self.fused:
            rows = (spec.heads + 2 * spec.kv_heads) * spec.head_dim
            self.qkv = nn.Linear(spec.hidden, rows, bias=spec.qkv_bias)
        else:
            kv = spec.kv_heads * spec.head_dim
            self.q = nn.Linear(spec.hidden, spec.heads * spec.head_dim, bias=spec.qkv_bias)
            self.k = nn.Linear(spec.hidden, kv, bias=spec.qkv_bias)
            self.v = nn.Linear(spec.hidden, kv, bias=spec.qkv_bias)
        self.out = nn.Linear(spec.heads * spec.head_dim, spec.hidden, bias=False)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor, past: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        """`[1, T, hidden]` to the same, and keys and values of past and new tokens."""
        query, key, value = self.project(x)
        query = rotate(query, rotation)
        key = torch.cat([past.key, rotate(key, rotation)], dim=2)
        value = torch.cat([past.value, value], dim=2)
        # Scaling the query keeps the products small enough for float16.
        scores = (query * self.head_dim**-0.5) @ self._for_all_heads(key).transpose(2, 3)
        mixed = (scores + mask).softmax(dim=-1) @ self._for_all_heads(value)
        return self.out(mixed.transpose(1, 2).flatten(2)), KeyValue(key, value)

    def row(self, x: Tensor, rotation: Rotation, key: Tensor) -> Tensor:
        """`[B, heads, S]`: softmax rows of one token each, `x` `[B, 1, hidden]`, over `key`."""
        query = rotate(self.project(x)[0], rotation) * self.head_dim**-0.5
        groups = query.view(len(x), self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        return (groups @ key.transpose(2, 3)).softmax(dim=-1).flatten(1, 2)

    def rows(self, x: Tensor, rotation: Rotation, key: Tensor, places: Tensor) -> Tensor:
        """`[1, heads, R, S]`: softmax rows of tokens `x` `[1, R, hidden]` at `places` in `key`."""
        query = rotate(self.project(x)[0], rotation) * self.head_dim**-0.5
        columns = torch.arange(key.shape[2], device=key.device)
        mask = torch.where(columns.unsqueeze(0) <= places.unsqueeze(1), 0.0, -torch.inf)
        return (query @ self._for_all_heads(key).transpose(2, 3) + mask).softmax(dim=-1)

    def look(self, x: Tensor, rotation: Rotation, key: Tensor) -> Tensor:
        """`[B, heads, R, S]`: softmax rows of tokens `x` `[B, R, hidden]` that see all of `key`.

        R may be 0.
        """
        query = rotate(self.project(x)[0], rotation) * self.head_dim**-0.5
        return (self._grouped(query) @ key.unsqueeze(2).transpose(3, 4)).softmax(-1).flatten(1, 2)

    def mix(self, rows: Tensor, value: Tensor) -> Tensor:
        """`[B, R, hidden]`: what tokens find in `value` whose rows over it `look` gave."""
        mixed = (self._grouped(rows) @ value.unsqueeze(2)).flatten(1, 2)
        return cast("Tensor", self.out(mixed.transpose(1, 2).flatten(2)))

    def keys(self, x: Tensor) -> Tensor:
        """`[B, kv_heads, T, head_dim]`: the keys of `project`, and nothing else."""
        return self._split(self._of_group(x, -2) if self.fused else self.k(x))

    def values(self, x: Tensor) -> Tensor:
        """`[B, kv_heads, T, head_dim]`: the values of `project`, and nothing else."""
        return self._split(self._of_group(x, -1) if self.fused else self.v(x))

    def _of_group(self, x: Tensor, part: int) -> Tensor:
        """The projection by one part of each key-value head's rows of the fused weight."""
        shape = (self.kv_heads, self.heads // self.kv_heads + 2, self.head_dim)
        weight = self.qkv.weight.unflatten(0, shape)[:, part].flatten(0, 1)
        bias = self.qkv.bias
        if bias is not None:
            bias = bias.unflatten(0, shape)[:, part].flatten()
        return functional.linear(x, weight, bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[1, heads, T, head_dim]`, keys and values `[1, kv_heads, T, head_dim]`.

        Not rotated yet. Any number of sequences will do, as `x` `[B, T, hidden]`.
        """
        if not self.fused:
            return self._split(self.q(x)), self._split(self.k(x)), self._split(self.v(x))
        # InternLM2 stores, for each key-value head, its queries, then its key and its value.
        group = self.heads // self.kv_heads
        parts = self.qkv(x).unflatten(2, (self.kv_heads, group + 2, self.head_dim))
        query, key, value = (
            part.flatten(2, 3).transpose(1, 2) for part in parts.split([group, 1, 1], dim=3)
        )
        return query, key, value

    def _grouped(self, x: Tensor) -> Tensor:
        """`[B, heads, ...]` to `[B, kv_heads, heads / kv_heads, ...]`."""
        return x.unflatten(1, (self.kv_heads, self.heads // self.kv_heads))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.head_dim)).transpose(1, 2)

    def _for_all_heads(self, x: Tensor) -> Tensor:
        """`[1, kv_heads, S, head_dim]` to `[1, heads, S, head_dim]`."""
        group = self.heads // self.kv_heads
        if group == 1:
            return x
        return x.unsqueeze(2).expand(-1, -1, group, -1, -1).flatten(1, 2)


class GatedMLP(nn.Module):
    """`down(silu(gate(x)) * up(x))`."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__()
        self.gate = nn.Linear(spec.hidden, spec.mlp, bias=False)
        self.up = nn.Linear(spec.hidden, spec.mlp, bias=False)
        self.down = nn.Linear(spec.mlp, spec.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[1, T, hidden]` to `[1, T, hidden]`."""
        gate = self.gate(x)
        return cast("Tensor", self.down(gate * torch.sigmoid(gate) * self.up(x)))


class RMSNorm(nn.Module):
    """`x / rms(x) * weight`."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to `[..., width]`."""
        mean = (x * x).mean(dim=-1, keepdim=True)
        return x * torch.rsqrt(mean + self.eps) * self.weight


def inverse_frequencies(spec: TextSpec) -> Tensor:
    """`[head_dim / 2]` float32: how fast each pair of channels turns, in radians a position."""
    steps = torch.arange(0, spec.head_dim, 2, dtype=torch.float32, device="cpu")
    return 1.0 / spec.rope_theta ** (steps / spec.head_dim)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """`[1, heads, T, head_dim]` turned by its positions; channel i pairs with i + head_dim / 2."""
    first, second = x.chunk(2, dim=3)
    return x * rotation.cos + torch.cat([-second, first], dim=3) * rotation.sin


def causal_mask(new: int, past: int, like: Tensor) -> Tensor:
    """`[new, past + new]` float32: 0 where a token may look, -inf where not."""
    columns = torch.arange(past + new, device=like.device)
    rows = torch.arange(past, past + new, device=like.device)
    return torch.where(columns.unsqueeze(0) <= rows.unsqueeze(1), 0.0, -torch.inf)
