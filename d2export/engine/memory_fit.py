"""Whether a whole model fits in a device's memory: weights, KV cache and activations.

An estimate from counts (`pruning/flops.py`), for scope `vlm` with both engines loaded:

- Weights: those of the vision graph and the language model. INT8 has them in one byte, the
  embedding table and the head in two.
- KV cache: after the longest answer, and twice, because a decode step reads the cache and writes
  one that is a token longer.
- Activations: the largest layer of the vision tower over all tiles, plus that of prefill, since
  each engine keeps its own. Attention scores are in memory; where TensorRT fuses attention they
  are not, and it needs less.

Not counted: the CUDA context and kernels, and what building an engine takes beyond running it.
"""

from __future__ import annotations

from dataclasses import dataclass

from d2export.models.presets import ModelSpec, TextSpec
from d2export.pruning.flops import Prompt, decode, prefill, text_parameters
from d2export.pruning.parameters import PruneParameters, parse_keep
from d2export.pruning.vision_flops import vision, vision_parameters


@dataclass(frozen=True)
class Widths:
    """Bytes of a value; `weight` of a layer's weight, `value` of everything else."""

    weight: int
    value: int


WIDTHS = {"fp32": Widths(4, 4), "fp16": Widths(2, 2), "bf16": Widths(2, 2), "int8": Widths(1, 2)}


@dataclass(frozen=True)
class Question:
    """A picture, a prompt and an answer.

    Attributes:
        tiles: of all pictures together, thumbnails included.
        keep: visual tokens kept, as `--keep` takes it.
        text_tokens: of the prompt.
        answer_tokens: of the longest answer.
        prune_layer: layer of the language model before which tokens are pruned.
    """

    tiles: int
    keep: str
    text_tokens: int
    answer_tokens: int
    prune_layer: int


@dataclass(frozen=True)
class MemoryNeed:
    """What a model needs on a device, in bytes."""

    weights: int
    kv_cache: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.activations

    def left_over(self, usable: int | None) -> int | None:
        """What stays free of the usable memory; negative: it does not fit. None: not known."""
        return None if usable is None else usable - self.total


def memory_need(spec: ModelSpec, precision: str, question: Question) -> MemoryNeed:
    """What a model takes in one of `WIDTHS` to answer a question.

    Raises:
        UsageError: `keep` is none.
    """
    widths, text = WIDTHS[precision], spec.text
    visual_tokens = question.tiles * spec.vision.tokens_per_tile
    kept = PruneParameters(*parse_keep(question.keep)).kept(visual_tokens)
    prompt = Prompt(question.text_tokens, visual_tokens, kept, question.prune_layer)
    seen = vision(spec.vision, text.hidden, question.tiles, width=widths.value)
    first = prefill(text, prompt, width=widths.value)
    last = decode(text, prompt, question.answer_tokens, width=widths.value)
    tables = _table_parameters(text)
    layers = vision_parameters(spec.vision, text.hidden) + text_parameters(text) - tables
    return MemoryNeed(
        widths.weight * layers + widths.value * tables,
        2 * last.kv_bytes,
        seen.activation_bytes + first.activation_bytes,
    )


def _table_parameters(text: TextSpec) -> int:
    """Parameters of the embedding table, and of the head where it is another one."""
    return text.vocab * text.hidden * (1 if text.tied else 2)
