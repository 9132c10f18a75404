"""What the decoder and the selection cost: MACs, bytes of weights, KV cache and activations.

MACs (multiply-accumulate = 1) are those of matrix products and convolutions. Norms, softmax, rotary
positions, activation functions and additions have none. Attention is counted in one of two ways:
`dense`, every new token with every key, which is what a graph with a mask computes and what the
paper's formula has; and `causal`, the `n (n + 1) / 2` pairs that the mask leaves.

Activations are the most values alive at once in one layer: every input and output of a matrix
product is in memory, the scores of all heads included; a value goes when its last reader has run;
elementwise steps work in place; key-value heads are not repeated. Keys and values of the decoder
are KV cache and not counted twice. Weights and KV cache are what is held after the call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from d2export.models.presets import TextSpec
from d2export.pruning.parameters import Budget, PruneParameters, share_of
from d2export.pruning.plan import Plan
from d2export.pruning.rule_parameters import DartParameters, DeduplicateParameters, DppParameters

HALF = 2  # bytes of a float16 or bfloat16 value

Attention = Literal["dense", "causal"]


class Cost(NamedTuple):
    """One call of one stage."""

    macs: int
    weight_bytes: int
    kv_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Prompt:
    """A prompt whose visual tokens are pruned before decoder layer `prune_layer`, K.

    `importance_rows` counts the attention rows computed of layers below K to decide what stays: 1,
    2 with prior `shallow`, 0 in a model that does not prune; `layers_ahead` those of layers from K
    on: each takes the keys of all tokens, but for the last one also their values and the layer
    itself over one token.
    """

    text_tokens: int
    visual_tokens: int
    kept: int
    prune_layer: int
    importance_rows: int = 1
    layers_ahead: int = 0

    @classmethod
    def under(cls, plan: Plan, text_tokens: int, visual_tokens: int, kept: int) -> Prompt:
        """A prompt pruned as a plan says."""
        below, ahead = plan.rows if plan.reads_ahead else (True, 0)
        rows = below + (plan.prior == "shallow")
        return cls(text_tokens, visual_tokens, kept, plan.prune_layer or 0, rows, ahead)

    def unpruned(self) -> Prompt:
        """The same in a model that does not prune."""
        return replace(self, kept=self.visual_tokens, importance_rows=0, layers_ahead=0)

    def lengths(self, layers: int) -> list[int]:
        """Tokens in each decoder layer: all of them below K, the surviving ones from K on."""
        whole, pruned = self.text_tokens + self.visual_tokens, self.text_tokens + self.kept
        return [pruned if layer >= self.prune_layer else whole for layer in range(layers)]


def saving(pruned: int, whole: int) -> float:
    """The share saved, 0 to 1."""
    return 1 - pruned / whole


def prefill(
    text: TextSpec, prompt: Prompt, *, attention: Attention = "dense", width: int = HALF
) -> Cost:
    """The decoder over a whole prompt; the head runs for the last token alone."""
    lengths = prompt.lengths(text.layers)
    layers = sum(
        _layer_macs(text, n, n * n if attention == "dense" else n * (n + 1) // 2) for n in lengths
    )
    rows = prompt.importance_rows * _row_macs(text, lengths[0])
    rows += lengths[0] * _read_macs(text, prompt.layers_ahead)
    rows += prompt.layers_ahead * _row_macs(text, lengths[0])
    rows += max(0, prompt.layers_ahead - 1) * _reader_macs(text, lengths[0])
    peak = max(_decoder_peak(text, n, n) for n in lengths)
    return _decoder_cost(text, layers + rows, sum(lengths), peak, width)


def decode(text: TextSpec, prompt: Prompt, generated: int = 0, *, width: int = HALF) -> Cost:
    """One step of the decoder after a prompt and `generated` more tokens in the KV cache.

    The graph computes importance rows of layers below K in every step, because it is also the graph
    of prefill; of layers ahead it computes the new token's keys and values, and nobody reads them.
    """
    context = [length + generated + 1 for length in prompt.lengths(text.layers)]
    layers = sum(_layer_macs(text, 1, keys) for keys in context)
    rows = prompt.importance_rows * _row_macs(text, context[0])
    rows += _read_macs(text, prompt.layers_ahead)
    peak = max(_decoder_peak(text, 1, keys) for keys in context)
    return _decoder_cost(text, layers + rows, sum(context), peak, width)


def text_parameters(text: TextSpec) -> int:
    """Parameters of the language model."""
    d, query, kv = text.hidden, text.heads * text.head_dim, text.kv_heads * text.head_dim
    layer = (
        (query + 2 * kv) * (d + text.qkv_bias) + query * d + 3 * d * text.mlp + 2 * d  # two norms
    )
    return text.vocab * d * (1 if text.tied else 2) + text.layers * layer + d


def _decoder_cost(text: TextSpec, macs: int, cached: int, peak: int, width: int) -> Cost:
    """With final head; `cached` counts the tokens remembered, over all layers."""
    return Cost(
        macs + text.hidden * text.vocab,
        width * text_parameters(text),
        width * 2 * text.kv_heads * text.head_dim * cached,
        width * max(peak, text.hidden + text.vocab),
    )


def _layer_macs(text: TextSpec, new: int, pairs: int) -> int:
    """One decoder layer: projections and gated MLP of the new tokens, scores and mix of `pairs`."""
    query, kv = text.heads * text.head_dim, text.kv_heads * text.head_dim
    return new * text.hidden * (2 * query + 2 * kv + 3 * text.mlp) + 2 * pairs * query


def _row_macs(text: TextSpec, keys: int) -> int:
    """The last token's attention row; a fused projection cannot leave out its key and value."""
    query, kv = text.heads * text.head_dim, text.kv_heads * text.head_dim
    return text.hidden * (query + 2 * kv * text.fused_qkv) + keys * query


def _read_macs(text: TextSpec, layers: int) -> int:
    """What reading ahead takes of each token: its key in every layer, its value in all but one."""
    parts = 2 * layers - 1 if layers else 0
    return parts * text.hidden * text.kv_heads * text.head_dim


def _reader_macs(text: TextSpec, keys: int) -> int:
    """A token on its way through a layer, whose row is there: values, output, MLP."""
    query = text.heads * text.head_dim
    return keys * query + text.hidden * (query + 3 * text.mlp)


def _decoder_peak(text: TextSpec, new: int, keys: int) -> int:
    query = text.heads * text.head_dim
    return new * max(
        2 * text.hidden + query,  # residual, its norm, query
        text.hidden + query + text.heads * keys,  # residual, query, scores
        2 * text.hidden + 2 * text.mlp,  # residual, its norm, gate, up
    )


class SelectionMacs(NamedTuple):
    """MACs of selecting, by what the tokens are like.

    `typical`: every token is visited while the set grows evenly, and compared with all of the set.
    `most`: the set soon lacks one token only, and to the end; nothing exceeds it.
    """

    typical: int
    most: int


def selection(parameters: Budget, tokens: int, channels: int) -> SelectionMacs:
    """Selecting among the visual tokens of one image: their norms, and dot products of pairs."""
    kept = parameters.kept(tokens)
    if kept == tokens:
        return SelectionMacs(0, 0)
    typical, most = _pairs(parameters, kept, tokens)
    if isinstance(parameters, PruneParameters) and kept == parameters.pivots(kept):
        return SelectionMacs(0, 0)  # by importance alone
    extra = kept * kept // 2 * tokens if isinstance(parameters, DppParameters) else 0  # Cholesky
    return SelectionMacs(*((tokens + pairs) * channels + extra for pairs in (typical, most)))


def _pairs(parameters: Budget, kept: int, tokens: int) -> tuple[int, int]:
    """Pairs of tokens that a rule compares, typically and at most."""
    if isinstance(parameters, PruneParameters):
        return _walked_pairs(parameters, kept, tokens)
    if isinstance(parameters, DeduplicateParameters):
        rest = tokens - share_of(parameters.important_ratio, kept)
        pairs = rest * (rest - 1) // 2
    elif isinstance(parameters, DppParameters):
        pairs = kept * tokens
    elif isinstance(parameters, DartParameters):
        pairs = min(parameters.pivots, kept) * tokens
    else:  # max-min: the first token takes all pairs
        pairs = tokens * (tokens - 1) // 2
    return pairs, pairs


def _walked_pairs(parameters: PruneParameters, kept: int, tokens: int) -> tuple[int, int]:
    pivots = parameters.pivots(kept)
    wanted, residual = kept - pivots, tokens - pivots
    if wanted == 0:
        return 0, 0
    short = wanted - 1  # the set, one token short of full
    blocked = residual * pivots * parameters.pivots_block
    typical = residual * short // 2 + blocked
    most = short * (short - 1) // 2 + (residual - short) * short + blocked
    return typical, most


def paper_macs(text: TextSpec, prompt: Prompt) -> int:
    """`4 n d^2 + 2 n^2 d + 3 n d m` for the n tokens of each decoder layer (arXiv 2512.19443).

    As many key-value heads as heads, no importance row, no head. It equals `prefill` in `dense`
    where the model has no grouped queries, but for these two.

    LLaVA-1.5-7B with K = 2 and 576 visual tokens, against nothing pruned:

    - `kept` from layer 2 on, no text tokens: 64 saves 83.5 %, 192 saves 63.0 %;
    - 128 on average over the layers, which is 98 from layer 2 on: 73.7 % with 35 text tokens,
      78.1 % with none. The paper's 74.2 % comes out with 31; it does not say how many it counted.
    """
    d, m = text.hidden, text.mlp
    return sum(4 * n * d * d + 2 * n * n * d + 3 * n * d * m for n in prompt.lengths(text.layers))


def kept_for_average(average: int, visual_tokens: int, layers: int, prune_layer: int) -> int:
    """How many to keep from layer K on, for `average` visual tokens over all layers."""
    return round((layers * average - prune_layer * visual_tokens) / (layers - prune_layer))
