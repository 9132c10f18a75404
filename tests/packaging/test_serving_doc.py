"""The worked examples of docs/serving.md, computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.counts_table import most_tokens
from d2export.engine.memory_fit import MemoryNeed, Question, memory_need
from d2export.engine.targets import target
from d2export.models.presets import PRESETS
from d2export.pruning.flops import Prompt, decode
from d2export.pruning.parameters import PruneParameters, parse_keep

DOCUMENT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
MODELS, KEEPS, DEVICES = (
    ("internvl2.5-8b", "llava-1.5-7b"),
    ("all", "25%", "10%", "64"),
    ("l4", "h100"),
)
TEXT_TOKENS, ANSWER, PRUNE_LAYER = 35, 256, 2
H100_BANDWIDTH, PCIE_4 = 3.35e12, 25e9  # bytes a second, as the document says


def needed(model: str, keep: str) -> MemoryNeed:
    """Of one picture at most tiles, FP16; the cache is that after the answer, twice."""
    vision = PRESETS[model].vision
    tiles = most_tokens(vision) // vision.tokens_per_tile
    question = Question(tiles, keep, TEXT_TOKENS, ANSWER, PRUNE_LAYER)
    return memory_need(PRESETS[model], "fp16", question)


def requests_in(model: str, keep: str, device: str) -> int:
    """Whose keys and values fit beside weights, activations, and a second copy for one step."""
    need, usable = needed(model, keep), target(device).usable
    assert usable is not None
    kv = need.kv_cache // 2
    return (usable - need.weights - need.activations - kv) // kv


def step_bytes(model: str, keep: str) -> int:
    """What a decode step at the end of the answer reads: the cache, and the LLM's weights.

    Of the embedding table it reads a row, unless that is the head, too.
    """
    spec = PRESETS[model]
    visual = most_tokens(spec.vision)
    kept = PruneParameters(*parse_keep(keep)).kept(visual)
    cost = decode(spec.text, Prompt(TEXT_TOKENS, visual, kept, PRUNE_LAYER), ANSWER)
    table = 0 if spec.text.tied else 2 * spec.text.vocab * spec.text.hidden
    return cost.weight_bytes - table + cost.kv_bytes


def row(model: str, keep: str) -> str:
    visual = most_tokens(PRESETS[model].vision)
    kept = PruneParameters(*parse_keep(keep)).kept(visual)
    kv, step = needed(model, keep).kv_cache // 2, step_bytes(model, keep)
    fits = [f"{requests_in(model, keep, device):,}" for device in DEVICES]
    cells = [
        model,
        keep,
        f"{kept:,} of {visual:,}",
        f"{kv / 1e6:.0f} MB",
        *fits,
        f"{step / 1e9:.2f} GB",
        f"{H100_BANDWIDTH / step:.0f}",
        f"{2 * kv / PCIE_4 * 1e3:.1f} ms",
    ]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("keep", KEEPS)
def test_a_row_of_the_table_is_what_the_counts_give(model: str, keep: str) -> None:
    assert row(model, keep) in DOCUMENT


def test_the_parts_of_the_first_example() -> None:
    need, usable = needed("internvl2.5-8b", "64"), target("h100").usable
    assert usable is not None
    parts = (usable, need.weights, need.activations, need.kv_cache / 2)
    card, weights, activations, kv = (f"{size / 1e9:.2f} GB" for size in parts)
    assert f"{card} - {weights} weights - {activations} activations - {kv}" in DOCUMENT
    text = PRESETS["internvl2.5-8b"].text
    token = 2 * 2 * text.layers * text.kv_heads * text.head_dim
    factors = f"2 * 2 * {text.layers} * {text.kv_heads} * {text.head_dim}"
    assert f"{factors} = {token:,} bytes" in DOCUMENT


def test_the_example_of_many_nodes() -> None:
    rate, tokens = 10, 100
    most = int(H100_BANDWIDTH / step_bytes("internvl2.5-8b", "64"))
    gpus = -(-rate * tokens // most)
    example = f"{rate} * {tokens} = {rate * tokens:,} tokens a second, {gpus} GPUs"
    assert f"{example} of at most {most}" in DOCUMENT
