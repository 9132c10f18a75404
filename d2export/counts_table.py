"""What pruning saves, in tables: of every preset, and of one model stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from d2export.models.presets import PRESETS, ModelSpec, TextSpec, VisionSpec
from d2export.pruning.flops import (
    HALF,
    Cost,
    Prompt,
    decode,
    kept_for_average,
    paper_macs,
    prefill,
    saving,
    selection,
)
from d2export.pruning.parameters import PruneParameters, parse_keep
from d2export.pruning.plan import Plan
from d2export.pruning.vision_flops import vision
from d2export.verify.tables import table

KEEPS = ("all", "25%", "10%", "64")
TEXT_TOKENS, PRUNE_LAYER = 35, 2
# Under the reading of the paper's 74.2 % that `paper_macs` tells.
PAPER_MODEL, PAPER_AVERAGE, PAPER_TEXT_TOKENS = "llava-1.5-7b", 128, (35, 31)

LEGEND = f"""\
visual: tokens of one picture at most tiles, beside {TEXT_TOKENS} text tokens; K = {PRUNE_LAYER}.
GMAC: 10^9 multiply-accumulates of the language model; attention in full, then masked.
causal: attention of the pairs alone that a mask leaves. KV MB: KV cache, 2 bytes a value.
paper's: its formula, 4nd^2 + 2n^2d + 3ndm for n tokens in a layer; it has no grouped queries."""


def counts(spec: ModelSpec, keep: str) -> dict[str, Any]:
    """Prefill of one picture at most tiles with `keep` of its tokens, as plain values.

    `saving` is that of the MACs against a model that does not prune: `dense` as the graph computes,
    `causal` by the pairs a mask leaves, `paper` by the paper's formula.
    """
    text, visual_tokens = spec.text, most_tokens(spec.vision)
    kept = PruneParameters(*parse_keep(keep)).kept(visual_tokens)
    prompt = Prompt(TEXT_TOKENS, visual_tokens, kept, PRUNE_LAYER)
    whole = prompt.unpruned()
    if keep == "all":
        prompt = whole
    cost, of_whole = prefill(text, prompt), prefill(text, whole)
    causal = [prefill(text, case, attention="causal").macs for case in (prompt, whole)]
    return {
        **asdict(prompt),
        "prefill_macs": cost.macs,
        "prefill_macs_causal": causal[0],
        "saving": {
            "dense": saving(cost.macs, of_whole.macs),
            "causal": saving(*causal),
            "paper": saving(paper_macs(text, prompt), paper_macs(text, whole)),
        },
        "kv_bytes": cost.kv_bytes,
        "kv_saving": saving(cost.kv_bytes, of_whole.kv_bytes),
    }


def preset_counts() -> dict[str, Any]:
    """`counts` of every preset, by how many tokens are kept."""
    return {name: {keep: counts(spec, keep) for keep in KEEPS} for name, spec in PRESETS.items()}


def preset_counts_table() -> str:
    """A line per preset and number of kept tokens."""
    rows = [
        [
            name,
            f"{found['visual_tokens']:,}",
            keep,
            f"{found['kept']:,}",
            f"{found['prefill_macs'] / 1e9:,.1f}",
            *(f"{found['saving'][way]:.1%}" for way in ("dense", "causal", "paper")),
            f"{found['kv_bytes'] / 1e6:,.1f}",
            f"{found['kv_saving']:.1%}",
        ]
        for name, by_keep in preset_counts().items()
        for keep, found in by_keep.items()
    ]
    savings = ["saved", "causal", "paper's"]
    header = ["model", "visual", "keep", "kept", "prefill GMAC", *savings, "KV MB", "KV saved"]
    return "\n".join([table(header, rows), LEGEND, _paper_line()])


def counts_text(
    text: TextSpec,
    vision_spec: VisionSpec,
    plan: Plan,
    visual_tokens: int,
    text_tokens: int,
    width: int = HALF,
) -> str:
    """What each stage costs for one picture, and what pruning saves.

    Args:
        visual_tokens: of the picture, over all its tiles.
        text_tokens: of the prompt around it.
        width: bytes of a value.
    """
    tiles = visual_tokens // vision_spec.tokens_per_tile
    kept, prune_layer = plan.kept(visual_tokens, tiles), plan.prune_layer or 0
    pruned = Prompt.under(plan, text_tokens, visual_tokens, kept)
    whole = pruned.unpruned()
    seen = vision(vision_spec, text.hidden, tiles, width=width)
    before, after = prefill(text, whole, width=width), prefill(text, pruned, width=width)
    causal = [prefill(text, case, attention="causal").macs for case in (pruned, whole)]
    groups = tiles if plan.by_tile else 1
    most = groups * selection(plan.parameters, visual_tokens // groups, text.hidden).most
    stages: list[tuple[str, Cost]] = [
        ("vision tower, projector", seen),
        ("prefill, all tokens", before),
        ("prefill, pruned", after),
        ("decode step, all tokens", decode(text, whole, width=width)),
        ("decode step, pruned", decode(text, pruned, width=width)),
    ]
    rows: list[Sequence[str]] = [
        [name, f"{cost.macs / 1e9:,.3f}", *(f"{size / 1e6:,.1f}" for size in cost[1:])]
        for name, cost in stages
    ]
    rows.append(["selection, at most", f"{most / 1e9:,.3f}", "", "", ""])
    by_paper = saving(paper_macs(text, pruned), paper_macs(text, whole))
    return "\n".join(
        [
            f"{visual_tokens:,} visual tokens of one picture and {text_tokens:,} text tokens; "
            f"{kept:,} visual tokens kept from layer {prune_layer} on; {width} bytes a value",
            table(["stage", "GMAC", "weights MB", "KV cache MB", "activations MB"], rows),
            f"Prefill saves {saving(after.macs, before.macs):.1%} of the MACs (causal pairs alone: "
            f"{saving(*causal):.1%}, the paper's formula: {by_paper:.1%}) "
            f"and {saving(after.kv_bytes, before.kv_bytes):.1%} of the KV cache.",
        ]
    )


def most_tokens(vision_spec: VisionSpec) -> int:
    """Visual tokens of a picture with as many tiles as the model takes, and its thumbnail."""
    most = vision_spec.image.max_tiles
    return (most + 1 if most > 1 else 1) * vision_spec.tokens_per_tile


def _paper_line() -> str:
    """The paper's published figure, and what its formula gives."""
    spec = PRESETS[PAPER_MODEL]
    text, visual_tokens = spec.text, most_tokens(spec.vision)
    kept = kept_for_average(PAPER_AVERAGE, visual_tokens, text.layers, PRUNE_LAYER)
    found = []
    for text_tokens in PAPER_TEXT_TOKENS:
        prompt = Prompt(text_tokens, visual_tokens, kept, PRUNE_LAYER)
        share = saving(paper_macs(text, prompt), paper_macs(text, prompt.unpruned()))
        found.append(f"{share:.1%} with {text_tokens} text tokens")
    return (
        f"The paper says 74.2% for {PAPER_MODEL}; its formula at {PAPER_AVERAGE} visual tokens on "
        f"average over the layers\n({kept} from layer {PRUNE_LAYER} on) gives {', '.join(found)}."
    )
