"""D2Pruner inside a language model, told plainly: whole attention matrices, no cache.

On the decoder layers of transformers' own Llama or Qwen2, with the definition of the selection in
numpy. This is what graphs with keys and values of two lengths are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d2export.pruning.parameters import PruneParameters
from d2export.pruning.reference import surviving_positions


@dataclass(frozen=True)
class Prompt:
    """One prompt: `[1, T]` embeddings, and where its visual tokens are and what they saw."""

    embeds: Tensor
    visual_positions: npt.NDArray[np.int64]
    image_lengths: npt.NDArray[np.int64]
    grid: npt.NDArray[np.float32]
    prior: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """Greedy tokens, the logits `[1, vocab]` before each, and the prompt's surviving positions."""

    tokens: list[int]
    logits: list[Tensor]
    positions: list[int]


def follow(
    model: Any,
    prompt: Prompt,
    given: Sequence[int],
    parameters: PruneParameters,
    prune_layer: int,
    prior: str = "none",
) -> Answer:
    """What a `LlamaForCausalLM` or `Qwen2ForCausalLM` says after the prompt and each of `given`.

    Attention looks back only, so one pass answers as a pass for every token would. Those answers,
    shifted by one, are `given` exactly where `given` is the model's own greedy answer.

    Args:
        given: tokens of an answer, the last of which is not read.
        prior: `none`, `file` (that of the prompt) or `shallow`, the attention of layer 0.
    """
    last = prompt.embeds.shape[1] - 1
    with torch.inference_mode():
        answered = model.model.embed_tokens(torch.tensor([[*given[:-1]]], dtype=torch.int64))
        states = torch.cat([prompt.embeds, answered], dim=1)
        ids = torch.arange(states.shape[1]).unsqueeze(0)
        rows = []
        for layer in model.model.layers[:prune_layer]:
            states, attention = _run(model, layer, states, ids)
            rows.append(attention[0, :, last, : last + 1].numpy())
        chosen = prompt.prior if prior == "file" else np.ones_like(prompt.prior)
        if prior == "shallow":
            chosen = rows[0].mean(axis=0, dtype=np.float32)[prompt.visual_positions]
        survivors = surviving_positions(
            states[0, : last + 1].numpy(),
            rows[-1],
            chosen,
            prompt.grid,
            prompt.visual_positions,
            prompt.image_lengths,
            parameters,
        )
        positions = [int(position) for position in survivors]
        kept = torch.tensor([*positions, *range(last + 1, states.shape[1])])
        states, ids = states[:, kept], ids[:, kept]
        for layer in model.model.layers[prune_layer:]:
            states, _ = _run(model, layer, states, ids)
        logits = model.lm_head(model.model.norm(states[0, len(positions) - 1 :]))
    return Answer(logits.argmax(dim=1).tolist(), list(logits.split(1)), positions)


def _run(model: Any, layer: Any, states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """A layer on all tokens at once: new states, and the attention `[1, heads, T, T]`."""
    length = states.shape[1]
    mask = torch.full((length, length), -torch.inf).triu(1)[None, None]
    rotation = model.model.rotary_emb(states, position_ids)
    seen: list[Tensor] = []
    hook = layer.self_attn.register_forward_hook(lambda _, __, output: seen.append(output[1]))
    answer = layer(
        states, attention_mask=mask, position_ids=position_ids, position_embeddings=rotation
    )
    hook.remove()
    return (answer if isinstance(answer, Tensor) else answer[0]), seen[0]
