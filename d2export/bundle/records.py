"""The parts of a manifest, as records whose annotations say what each value may be.

All paths are relative to the bundle, with `/` between the parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from d2export.bundle.strict_json import Pattern, Range
from d2export.models.presets import TextSpec, VisionSpec
from d2export.pruning.plan import Plan, make_plan
from d2export.pruning.rule_parameters import NO_LIMIT
from d2export.pruning.selectors import selector

Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Permille = Annotated[int, Range(1, 1000)]
Share = Annotated[float, Range(0, 1)]
NonNegative = Annotated[float, Range(0)]
Name = Annotated[str, Pattern(r"[^\u0000-\u001f]+", "a name on one line")]
Sha256 = Annotated[str, Pattern(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")]
RelativePath = Annotated[
    str,
    Pattern(
        r"(?!\.{1,2}(/|$))[^/\\:\u0000-\u001f]+(/(?!\.{1,2}(/|$))[^/\\:\u0000-\u001f]+)*",
        "a relative path with / between its parts and no '..'",
    ),
]
Dtype = Literal["float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]


@dataclass(frozen=True)
class Tool:
    """What wrote the bundle."""

    name: Literal["d2export"]
    version: Name


@dataclass(frozen=True)
class Model:
    """Where the weights come from: `id` is a hub id or a folder; `random_seed` drew them."""

    name: Name
    family: Literal["internvl", "llava"]
    source: Literal["hub", "folder", "package", "random"]
    id: Name | None
    revision: Name | None
    random_seed: Count | None
    trained: bool
    vision: VisionSpec
    text: TextSpec


@dataclass(frozen=True)
class Prior:
    """The positional-bias prior: the digest of its file, and what that says of its origin.

    In scope `vision` its numbers are in the graph; in scope `vlm` they are the file at `path`, or
    with source `shallow` the attention of a shallow layer in the same call.
    """

    source: Literal["none", "file", "shallow"]
    path: RelativePath | None
    sha256: Sha256 | None
    provenance: dict[str, object]


@dataclass(frozen=True)
class Selector:
    """Which tokens stay.

    Exactly one of `keep` (tokens per `budget`) and `keep_permille` is set, or `min_keep` and
    `max_keep` where the picture says how many. `settings` are all of the selector's own.
    `importance_layer` is the vision layer whose CLS token counts, `prune_layer` the layer of the
    language model before which tokens are pruned, by the attention of the layer before it
    (`d2+`: or its own).
    `position_ids` says whether tokens pruned before the language model leave gaps.
    """

    name: Literal[
        "d2",
        "d2+",
        "fastv",
        "divprune",
        "cdpruner",
        "vispruner",
        "dart",
        "sms",
        "random",
        "uniform",
    ]
    importance: Literal["cls", "text", "uniform", "llm", "random", "stride"] | None
    keep: Positive | None
    keep_permille: Permille | None
    min_keep: Positive | None
    max_keep: Positive | None
    budget: Literal["image", "tile", "prompt"]
    settings: dict[Name, bool | int | float | str]
    importance_layer: Count | None
    prune_layer: Positive | None
    position_ids: Literal["original", "contiguous"]
    prior: Prior

    def plan(self, scope: str) -> Plan:
        """How the graphs of the bundle prune.

        Raises:
            UsageError: the values contradict each other.
        """
        chosen = selector(self.name)
        return make_plan(
            chosen,
            scope,
            self.importance,
            chosen.resolve(self.settings),
            keep=self.keep or 0,
            keep_permille=self.keep_permille or 0,
            min_keep=self.min_keep or 1,
            max_keep=self.max_keep or NO_LIMIT,
            importance_layer=self.importance_layer,
            prune_layer=self.prune_layer or 0,
            prior=self.prior.source,
            budget=self.budget,
        )


@dataclass(frozen=True)
class Value:
    """An input or output of a graph; a string in `shape` names a dynamic dimension."""

    name: Name
    dtype: Dtype
    shape: tuple[Count | Name, ...]


@dataclass(frozen=True)
class Graph:
    """One ONNX file."""

    path: RelativePath
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True)
class Graphs:
    """The graphs of a bundle.

    `vision`: pixels to visual tokens, in scope `vision` the kept ones. `decoder`: the language
    model, in scope `vlm`. `prune`: the op alone, for `bench`.
    """

    vision: Graph
    decoder: Graph | None
    prune: Graph


@dataclass(frozen=True)
class Weights:
    """Whether the weight files are hard links to the checkpoint at `source`, or copies."""

    mode: Literal["linked", "copied"]
    source: Name | None


@dataclass(frozen=True)
class Quantization:
    """INT8: the file of scales at `path`, what it was measured on, and how many products are INT8.

    The others are as in FP16.
    """

    path: RelativePath
    method: Literal["best", "max", "percentile", "entropy"]
    pictures: Positive
    products: Positive
    int8: Count


@dataclass(frozen=True)
class PromptEmbedding:
    """The token embedding matrix `[vocab, hidden]` inside a weight file, from byte `offset`."""

    path: RelativePath
    offset: Count
    dtype: Dtype
    shape: tuple[Positive, Positive]


@dataclass(frozen=True)
class Reference:
    """A stored input and PyTorch's answer (.npz): its tiles, visual tokens, and picture."""

    name: Name
    path: RelativePath
    tiles: Positive
    tokens: Positive
    image: RelativePath | None


@dataclass(frozen=True)
class Tolerances:
    """What `check` accepts: relative errors of embeddings and logits, share of equal indices."""

    embeddings_rtol: NonNegative
    logits_rtol: NonNegative
    indices_agreement: Share


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 of a file.

    `ranges`, `[start, stop)` in bytes, ascending: the digest covers only these, one after the
    other. A linked shard may hold 5 GB of which the graphs use 0.7; reading the rest of it on
    every `check` would cost time and protect nothing.
    """

    bytes: Count
    sha256: Sha256
    ranges: tuple[tuple[Count, Positive], ...] | None = None
