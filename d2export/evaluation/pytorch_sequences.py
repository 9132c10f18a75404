"""Prompts and answers in batches: what prunings share is computed once. Needs torch.

A `Trunk` runs the layers over whole prompts, as far as anybody needs them. Where visual tokens are
pruned a fork leaves it: the states of the tokens that stay go on by themselves, those of all
configurations that keep as many tokens side by side. All forks of a sample look at the same keys
and values in the layers below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from d2export.errors import CheckpointError
from d2export.models.decoder import (
    CausalAttention,
    DecoderLayer,
    KeyValue,
    LanguageModel,
    Rotation,
    causal_mask,
    rotate,
)
from d2export.models.reading_ahead import rows_ahead

TOKENS_AT_ONCE = 4096  # through a layer; more leave the processor's cache, and are no faster


class Trunk:
    """Whole prompts of one length on their way through the layers.

    Behind the last layer only the states of their last tokens are left: nobody asks for others.

    Args:
        text: the language model.
        states: `[B, T, hidden]`, embedded prompts.
        position_ids: `[T]` int64.
    """

    def __init__(self, text: LanguageModel, states: Tensor, position_ids: Tensor) -> None:
        self.states, self.position_ids = states, position_ids
        self.present: list[KeyValue] = []
        self._given: list[Tensor] = []
        self._layers = text.all_layers()
        self._rotation = text.rotation(position_ids.unsqueeze(0))
        self._mask = causal_mask(states.shape[1], 0, states)

    @property
    def depth(self) -> int:
        """How many layers have run."""
        return len(self.present)

    def advance(self, depth: int) -> None:
        """Run the layers below `depth`."""
        for layer in self._layers[self.depth : depth]:
            self._given.append(self.states)
            run = _last_only if layer is self._layers[-1] else _all
            self.states, present = _in_parts(run, layer, self.states, self._rotation, self._mask)
            self.present.append(present)

    def rows(self, layer: int, tokens: Tensor) -> Tensor:
        """`[B, heads, R, T]`: what tokens `[R]` of the prompts attend to in a layer below."""
        given, present = self._given[layer], self.present[layer]
        return self._layers[layer].some_rows(given, self._rotation, present, tokens)

    def rows_ahead(self, count: int) -> list[Tensor]:
        """`[B, heads, T]` each: what the last tokens will attend to in the next `count` layers."""
        layers = self._layers[self.depth : self.depth + count]
        past = [_nothing(layer, self.states) for layer in layers]
        found = rows_ahead(layers, self.states, self.states[:, -1:], self._rotation, past)
        return [row.squeeze(2) for row in found]


@dataclass(frozen=True, eq=False)
class Fork:
    """Where configurations leave the trunk.

    Attributes:
        depth: the layer before which they do; the number of layers where nothing is pruned.
        samples: `[B]` int64, ascending: those prompts of the trunk.
        positions: `[B, C, S]` int64, ascending: the tokens of each prompt that stay.
        position_ids: `[B, C, S]` int64.
    """

    depth: int
    samples: Tensor
    positions: Tensor
    position_ids: Tensor


@dataclass(frozen=True, eq=False)
class Limits:
    """When answers end: behind a token of `stop` `[E]`, or as long as `longest` `[B]` says.

    Both int64; `longest` is at least 1.
    """

    stop: Tensor
    longest: Tensor


class Memory(NamedTuple):
    """What a layer remembers while answers are written.

    prompt `[B or B * C, kv_heads, S, head_dim]`: where it has `B` rows, `C` answers share each;
    answer `[B * C, kv_heads, A, head_dim]`, filled from the left.
    """

    prompt: KeyValue
    answer: KeyValue

    def of(self, samples: Tensor, sequences: Tensor, shared: bool) -> Memory:
        """The memory of some samples only; `sequences` are theirs."""
        rows = samples if shared else sequences
        return Memory(_of(self.prompt, rows), _of(self.answer, sequences))


def write(text: LanguageModel, trunk: Trunk, fork: Fork, limits: Limits) -> list[list[list[int]]]:
    """The greedy answers of each sample, in each configuration: token ids, with the last one.

    The trunk has run up to `fork.depth`, and not beyond.

    Raises:
        CheckpointError: there is no most likely token.
    """
    samples, configurations, _ = fork.positions.shape
    last, forked = _behind_fork(text, trunk, fork)
    prompts = [*(_of(present, fork.samples) for present in trunk.present), *forked]
    rows, longest = samples * configurations, int(limits.longest.max())
    memories = [_memory(prompt, rows, longest) for prompt in prompts]
    answers = torch.zeros(rows, longest, dtype=torch.int64)
    lengths = torch.zeros(rows, dtype=torch.int64)
    ends = limits.longest.repeat_interleave(configurations)
    place = fork.position_ids[:, :, -1].flatten()  # of the last token

    running = torch.arange(rows)  # which rows of `answers` are still being written, by sample
    for step in range(longest):
        token = _most_likely(text, last)
        answers[running, step] = token
        # What has ended goes on until enough have: its further tokens do not count.
        ended = torch.isin(token, limits.stop) | (step + 1 >= ends[running])
        fresh = (lengths[running] == 0) & ended
        lengths[running[fresh]] = step + 1
        alive = (lengths[running] == 0).view(-1, configurations).any(dim=1)
        left = int(alive.sum())
        if left == 0:
            break
        if left <= len(alive) // 2:
            kept = alive.nonzero().flatten()
            sequences = _sequences(kept, configurations)
            memories = [
                memory.of(kept, sequences, shared=index < fork.depth)
                for index, memory in enumerate(memories)
            ]
            running, token = running[sequences], token[sequences]
        place_now = (place[running] + step + 1).unsqueeze(1)
        last = _step(text, token, place_now, memories, step)
    lists = [row[:length] for row, length in zip(answers.tolist(), lengths.tolist(), strict=True)]
    return [lists[start : start + configurations] for start in range(0, rows, configurations)]


def _behind_fork(text: LanguageModel, trunk: Trunk, fork: Fork) -> tuple[Tensor, list[KeyValue]]:
    """States of the last tokens `[B * C, 1, hidden]`, and what the layers from the fork on keep."""
    samples, configurations, length = fork.positions.shape
    layers = text.all_layers()[fork.depth :]
    states = trunk.states
    if len(fork.samples) < len(states):
        states = states.index_select(0, fork.samples)
    if not layers:
        return states[:, -1:], []
    width = states.shape[2]
    positions = fork.positions.reshape(samples, -1, 1).expand(-1, -1, width)
    states = states.gather(1, positions).view(samples * configurations, length, width)
    rotation = text.rotation(fork.position_ids.flatten(0, 1))
    mask = causal_mask(length, 0, states)
    present = []
    for layer in layers:
        run = _last_only if layer is layers[-1] else _all
        states, found = _in_parts(run, layer, states, rotation, mask)
        present.append(found)
    return states, present


def _all(
    layer: DecoderLayer, states: Tensor, rotation: Rotation, mask: Tensor
) -> tuple[Tensor, KeyValue]:
    """A layer over whole sequences, as the exported decoder has it."""
    after, present = layer(states, rotation, mask, _nothing(layer, states))
    return after, present


def _nothing(layer: DecoderLayer, states: Tensor) -> KeyValue:
    """Keys and values of no token."""
    attention = layer.attention
    empty = states.new_empty(len(states), attention.kv_heads, 0, attention.head_dim)
    return KeyValue(empty, empty)


def _last_only(
    layer: DecoderLayer, states: Tensor, rotation: Rotation, mask: Tensor
) -> tuple[Tensor, KeyValue]:
    """The same, but only the last token's state: `[B, 1, hidden]`."""
    attention = layer.attention
    query, key, value = attention.project(layer.norm1(states))
    key = rotate(key, rotation)
    query = rotate(query[:, :, -1:], rotation.last()) * attention.head_dim**-0.5
    groups = query.view(len(states), attention.kv_heads, -1, attention.head_dim)
    mixed = (groups @ key.transpose(2, 3)).softmax(dim=-1) @ value
    attended = attention.out(mixed.reshape(len(states), 1, -1))
    return layer.behind(states[:, -1:], attended), KeyValue(key, value)


def _in_parts(
    run: Callable[[DecoderLayer, Tensor, Rotation, Tensor], tuple[Tensor, KeyValue]],
    layer: DecoderLayer,
    states: Tensor,
    rotation: Rotation,
    mask: Tensor,
) -> tuple[Tensor, KeyValue]:
    """A layer over `[B, T, hidden]`, few sequences at a time."""
    rows = max(1, TOKENS_AT_ONCE // states.shape[1])
    parts, keys, values = [], [], []
    for start in range(0, len(states), rows):
        part = states[start : start + rows]
        own = rotation
        if len(rotation.cos) > 1:
            own = Rotation(*(of[start : start + rows] for of in rotation))
        after, present = run(layer, part, own, mask)
        parts.append(after)
        keys.append(present.key)
        values.append(present.value)
    if len(parts) == 1:
        return parts[0], KeyValue(keys[0], values[0])
    return torch.cat(parts), KeyValue(torch.cat(keys), torch.cat(values))


def _of(memory: KeyValue, rows: Tensor) -> KeyValue:
    """Keys and values of some rows, in order; without a copy if these are all."""
    if len(rows) == len(memory.key):
        return memory
    return KeyValue(*(part.index_select(0, rows) for part in memory))


def _memory(prompt: KeyValue, rows: int, longest: int) -> Memory:
    _, heads, _, width = prompt.key.shape
    answer = KeyValue(*(prompt.key.new_zeros(rows, heads, longest, width) for _ in "kv"))
    return Memory(prompt, answer)


def _sequences(samples: Tensor, configurations: int) -> Tensor:
    """Which sequences, those of a sample side by side, belong to these samples."""
    return (samples.unsqueeze(1) * configurations + torch.arange(configurations)).flatten()


def _most_likely(text: LanguageModel, states: Tensor) -> Tensor:
    """`[R]` int64 of states `[R, 1, hidden]`; of equally likely tokens the lowest."""
    logits = text.logits(states)[:, 0]
    most, token = logits.max(dim=1)
    if not most.isfinite().all():
        raise CheckpointError(
            "the model answers NaN or infinity, expected finite logits",
            "Its weights are damaged: download or train them again.",
        )
    return token


def _step(
    text: LanguageModel, token: Tensor, place: Tensor, memories: list[Memory], step: int
) -> Tensor:
    """States `[R, 1, hidden]` of the tokens `[R]`, number `step` of their answers."""
    states, rotation = text.embedding(token).unsqueeze(1), text.rotation(place)
    for layer, memory in zip(text.all_layers(), memories, strict=True):
        mixed = _look_back(layer.attention, layer.norm1(states), rotation, memory, step)
        states = layer.behind(states, layer.attention.out(mixed))
    return cast("Tensor", states)


def _look_back(
    attention: CausalAttention, x: Tensor, rotation: Rotation, memory: Memory, step: int
) -> Tensor:
    """`[R, 1, heads * head_dim]`: what one more token of each answer finds in prompt and answer."""
    query, key, value = attention.project(x)
    memory.answer.key[:, :, step] = rotate(key, rotation)[:, :, 0]
    memory.answer.value[:, :, step] = value[:, :, 0]
    written = KeyValue(*(part[:, :, : step + 1] for part in memory.answer))
    query = rotate(query, rotation) * attention.head_dim**-0.5
    rows, heads, _, width = query.shape
    groups = query.view(rows, attention.kv_heads, -1, width)  # one key head, several queries
    prompts = len(memory.prompt.key)
    # Answers that share a prompt ask it together: their queries are rows of one product.
    together = groups.view(prompts, -1, *groups.shape[1:]).transpose(1, 2).flatten(2, 3)
    about_prompt = _apart(together @ memory.prompt.key.transpose(2, 3), rows // prompts)
    scores = torch.cat([about_prompt, groups @ written.key.transpose(2, 3)], dim=3)
    shares = scores.softmax(dim=-1)
    length = memory.prompt.key.shape[2]
    asked = shares[..., :length].view(prompts, -1, *shares.shape[1:3], length)
    of_prompt = _apart(asked.transpose(1, 2).flatten(2, 3) @ memory.prompt.value, rows // prompts)
    mixed = of_prompt + shares[..., length:] @ written.value
    return mixed.reshape(rows, 1, heads * width)


def _apart(x: Tensor, copies: int) -> Tensor:
    """`[B, kv_heads, C * group, ...]` to `[B * C, kv_heads, group, ...]`."""
    return x.view(*x.shape[:2], copies, -1, x.shape[3]).transpose(1, 2).flatten(0, 1)
