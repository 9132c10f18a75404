"""The counts equal what torch counts while the models run, and what a plain simulation holds."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from d2export.export.decoder import trace_decoder
from d2export.export.pruned_decoder import PrunedDecoder
from d2export.export.simplify import merge_repeated
from d2export.export.vision import trace_vision
from d2export.models.layouts import parameter_shapes
from d2export.models.presets import PRESETS, ModelSpec, TextSpec
from d2export.models.text_layouts import text_shapes
from d2export.models.vision_tower import VisionModel
from d2export.pruning import reference
from d2export.pruning.flops import (
    Attention,
    Prompt,
    decode,
    kept_for_average,
    paper_macs,
    prefill,
    saving,
    selection,
    text_parameters,
)
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import Plan, d2_plan
from d2export.pruning.selectors import SELECTORS
from d2export.pruning.vision_flops import vision, vision_parameters
from tests.models.test_decoder import SPECS

LLAVA, INTERNVL = PRESETS["llava-1.5-7b"], PRESETS["internvl2.5-8b"]
EVERY_PRESET = pytest.mark.parametrize("spec", PRESETS.values(), ids=list(PRESETS))
KEEP_FOUR = PruneParameters(keep=4)
TEXT, VISUAL, LAYER = 5, 12, 2
SIDE = 2  # of a tile, in tokens
Prior = Literal["none", "shallow"]


def counted(run: Any) -> int:
    """MACs of the matrix products and convolutions that torch sees in `run()`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    flops: int = counter.get_total_flops()
    return flops // 2


# MACs


@EVERY_PRESET
@pytest.mark.parametrize("cls_layer", [None, 2])
def test_vision_tower_and_projector(spec: ModelSpec, cls_layer: int | None) -> None:
    size, tiles = spec.vision.image.size, 3
    with torch.device("meta"):
        model, pixels = VisionModel(spec), torch.empty(tiles, 3, size, size)
    cost = vision(spec.vision, spec.text.hidden, tiles, cls_row=cls_layer is not None)
    # In torch the row's keys are computed again; in the graph they are the layer's own.
    again = 0 if cls_layer is None else (spec.vision.patches_per_side**2 + 1)
    assert counted(lambda: model(pixels, cls_layer)) == (
        cost.macs + tiles * again * spec.vision.hidden**2
    )


@EVERY_PRESET
def test_language_model_of_transformers(spec: ModelSpec) -> None:
    """Prefill and one decode step. Attention is dense: torch counts what the mask hides, too."""
    transformers = pytest.importorskip("transformers", reason="transformers, to compare with")
    text, new = spec.text, 35
    kind = "Qwen2" if text.backbone == "qwen2" else "Llama"
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=text.hidden,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        num_key_value_heads=text.kv_heads,
        intermediate_size=text.mlp,
        vocab_size=text.vocab,
        tie_word_embeddings=text.tied,
        attn_implementation="eager",
    )
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        ids, step = torch.zeros(1, new, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    assert text_parameters(text) == sum(parameter.numel() for parameter in model.parameters())

    prompt = Prompt(new, 0, 0, LAYER, importance_rows=0)
    answers: list[Any] = []
    assert counted(lambda: answers.append(model(ids, logits_to_keep=1, use_cache=True))) == (
        prefill(text, prompt).macs
    )
    cache = answers[0].past_key_values
    assert counted(lambda: model(step, past_key_values=cache, use_cache=True)) == (
        decode(text, prompt).macs
    )


def ahead_plan(rows: str, prior: Prior = "none") -> Plan:
    """`d2+`, keeping four tokens."""
    settings = {"rows": rows, "smoothing": 0.6}
    return replace(
        d2_plan(KEEP_FOUR, layer=LAYER, prior=prior), selector=SELECTORS["d2+"], settings=settings
    )


@pytest.mark.parametrize("rows", ["d2", "two", "both", "ahead"])
@pytest.mark.parametrize("prior", ["none", "shallow"])
@pytest.mark.parametrize("name", SPECS)
def test_pruned_decoder(name: str, prior: Prior, rows: str) -> None:
    """The module that becomes the graph: MACs of prefill and of a decode step, and its KV cache."""
    spec = replace(SPECS[name], layers=4)
    plan = d2_plan(KEEP_FOUR, layer=LAYER, prior=prior)
    if rows != "d2":
        plan = ahead_plan(rows, prior)
    prompt = Prompt.under(plan, TEXT, VISUAL, 4)
    assert prompt.importance_rows == (rows in ("d2", "both")) + (prior == "shallow")
    assert prompt.layers_ahead == {"d2": 0, "two": 2}.get(rows, 1)
    # torch also computes the last token's key and value for a row; in the graph nobody reads
    # them, and they are gone, unless they are rows of a fused weight. Ahead, the last token reads
    # in prefill only.
    unread = 0 if spec.fused_qkv else 2 * spec.kv_heads * spec.head_dim * spec.hidden
    unread_ahead = unread * prompt.layers_ahead
    unread *= prompt.importance_rows
    model = PrunedDecoder(spec, plan, SIDE)
    present: list[torch.Tensor] = []

    def call(new: int, visual: int, past: list[torch.Tensor], start: int) -> None:
        present[:] = model(
            torch.zeros(1, new, dtype=torch.int64),
            torch.randn(visual, spec.hidden),
            torch.arange(visual),
            torch.arange(start, start + new).unsqueeze(0),
            past,
            torch.tensor([visual] if visual else [], dtype=torch.int64),
            torch.randn(visual, 2),
        )[2]

    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    nothing = [torch.zeros(1, spec.kv_heads, 0, spec.head_dim)] * (2 * spec.layers)
    length = TEXT + VISUAL
    before = prefill(spec, prompt, width=4)
    assert counted(lambda: call(length, VISUAL, nothing, 0)) == before.macs + unread + unread_ahead
    assert before.kv_bytes == sum(part.nbytes for part in present)

    for generated in range(2):
        step = decode(spec, prompt, generated, width=4)
        past = list(present)
        assert counted(lambda past=past: call(1, 0, past, length)) == step.macs + unread
        assert step.kv_bytes == sum(part.nbytes for part in present)


@pytest.mark.parametrize(("name", "projections"), [("llama", 3), ("internlm2", 1)])
def test_the_graph_has_no_products_but_those_counted(name: str, projections: int) -> None:
    spec = replace(SPECS[name], layers=4)

    def products(plan: Plan) -> int:
        model = trace_decoder(spec, plan, 17, SIDE)
        return sum(node.op_type in ("MatMul", "Gemm") for node in model.graph)

    row, keys, values, output, mlp = 2, 1, 1, 1, 3
    layers_and_head = spec.layers * (projections + 2 + output + mlp) + 1
    extra = {
        "d2": row,
        "ahead": row + keys,
        "both": 2 * row + keys,
        "two": 2 * (row + keys) + values + 1 + output + mlp,
    }
    for rows, more in extra.items():
        plan = d2_plan(KEEP_FOUR, layer=LAYER) if rows == "d2" else ahead_plan(rows)
        assert products(plan) == layers_and_head + more


def test_reading_ahead_costs_what_the_documents_say() -> None:
    """InternVL2.5-8B, 3,328 visual tokens and 35 of text, a tenth kept: docs/selectors.md."""
    text = INTERNVL.text
    plans = d2_plan(PruneParameters(keep_permille=100)), ahead_plan("two")
    d2, plus = (Prompt.under(plan, 35, 3328, 332) for plan in plans)
    more = prefill(text, plus).macs / prefill(text, d2).macs - 1
    assert f"{100 * more:.2f}" == "1.04"
    assert f"{100 * (decode(text, plus).macs / decode(text, d2).macs - 1):.1f}" == "-0.3"


def test_the_graph_shares_the_keys_of_the_cls_row() -> None:
    def products(importance: str) -> int:
        pocket = PRESETS["pocket"]
        model = trace_vision(pocket, d2_plan(KEEP_FOUR, importance, 2), prior=None, opset=17)
        merge_repeated(model)
        return sum(node.op_type in ("MatMul", "Gemm") for node in model.graph)

    assert products("cls") == products("uniform") + 2  # one query, one row of scores


def test_causal_attention_counts_the_pairs_below_the_mask() -> None:
    text, prompt = INTERNVL.text, Prompt(TEXT, VISUAL, 4, LAYER)
    masked = sum(
        int(np.triu(np.ones((n, n)), 1).sum()) for n in prompt.lengths(text.layers)
    )  # pairs above the diagonal
    dense, causal = (prefill(text, prompt, attention=way).macs for way in ("dense", "causal"))
    assert dense - causal == 2 * masked * text.hidden


# The paper's formula


@pytest.mark.parametrize(
    ("text_tokens", "kept", "expected"),
    [
        (0, 64, "83.5%"),
        (0, 192, "63.0%"),
        (0, 98, "78.1%"),
        (35, 98, "73.7%"),
        (31, 98, "74.2%"),  # the figure of the paper, which does not tell its text tokens
    ],
)
def test_what_the_papers_formula_gives(text_tokens: int, kept: int, expected: str) -> None:
    prompt = Prompt(text_tokens, 576, kept, 2)
    whole = paper_macs(LLAVA.text, prompt.unpruned())
    assert f"{saving(paper_macs(LLAVA.text, prompt), whole):.1%}" == expected


def test_an_average_of_128_keeps_98() -> None:
    assert kept_for_average(128, 576, 32, 2) == 98
    assert round((2 * 576 + 30 * 98) / 32) == 128


def test_no_other_prompt_length_gives_the_papers_figure() -> None:
    def gives(text_tokens: int) -> str:
        prompt = Prompt(text_tokens, 576, 98, 2)
        whole = paper_macs(LLAVA.text, prompt.unpruned())
        return f"{saving(paper_macs(LLAVA.text, prompt), whole):.1%}"

    assert [n for n in range(577) if gives(n) == "74.2%"] == [31]


def test_later_layers_save_less() -> None:
    """An independent study of InternVL2.5-8B at 10 %: 84 % before layer 2, 56 % before layer 12."""
    found = []
    for layer in (2, 12):
        prompt = Prompt(35, 3328, 332, layer)
        whole = paper_macs(INTERNVL.text, prompt.unpruned())
        found.append(f"{saving(paper_macs(INTERNVL.text, prompt), whole):.0%}")
    assert found == ["84%", "56%"]


def test_the_papers_formula_is_the_dense_count_without_grouped_queries() -> None:
    prompt = Prompt(35, 576, 64, 2)
    whole, head = prompt.unpruned(), LLAVA.text.hidden * LLAVA.text.vocab
    assert paper_macs(LLAVA.text, whole) == prefill(LLAVA.text, whole).macs - head
    grouped = replace(LLAVA.text, kv_heads=8)
    assert paper_macs(grouped, whole) > prefill(grouped, whole).macs - head


# Parameters


@EVERY_PRESET
def test_parameters_are_those_of_the_graphs(spec: ModelSpec) -> None:
    assert vision_parameters(spec.vision, spec.text.hidden) == sum(
        map(prod, parameter_shapes(spec).values())
    )
    for text in (spec.text, replace(spec.text, tied=True)):
        assert text_parameters(text) == sum(map(prod, text_shapes(text).values()))


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("internvl2.5-1b", 0.9),
        ("internvl2.5-2b", 2.2),
        ("internvl2.5-4b", 3.7),
        ("internvl2.5-8b", 8.1),
        ("llava-1.5-7b", 7.1),
        ("llava-1.5-13b", 13.3),
    ],
)
def test_billions_of_parameters(name: str, billions: float) -> None:
    spec = PRESETS[name]
    total = text_parameters(spec.text) + vision_parameters(spec.vision, spec.text.hidden)
    assert round(total / 1e9, 1) == billions


# Bytes


def peak(given: dict[str, int], steps: list[tuple[str, int, tuple[str, ...]]]) -> int:
    """Most values alive while `steps` run: each makes a value of a size, then some values go."""
    alive, most = dict(given), 0
    for name, size, gone in steps:
        alive[name] = size
        most = max(most, sum(alive.values()))
        for value in gone:
            del alive[value]
    return most


@pytest.mark.parametrize(("mlp", "heads", "new"), [(7, 2, 30), (90, 2, 3), (7, 2, 3), (7, 8, 9)])
def test_activations_of_a_decoder_layer(mlp: int, heads: int, new: int) -> None:
    """Wide attention, a wide MLP, neither: keys and values are in the KV cache."""
    text = TextSpec("llama", 16, 2, heads, heads, mlp, 5, 1e4, 256, 1e-5)
    d = text.hidden
    expected = peak(
        {"states": new * d},
        [
            ("norm1", new * d, ()),
            ("query", new * d, ("norm1",)),
            ("scores", new * heads * new, ("query",)),
            ("mixed", new * d, ("scores",)),
            ("out", new * d, ("mixed", "out")),  # added to the states
            ("norm2", new * d, ()),
            ("gate", new * mlp, ()),
            ("up", new * mlp, ("norm2", "up")),  # multiplied into the gate
            ("down", new * d, ("gate", "down")),
        ],
    )
    found = prefill(text, Prompt(new, 0, 0, 1), width=4)
    assert found.activation_bytes == 4 * expected


def test_activations_of_the_head() -> None:
    text = TextSpec("llama", 16, 2, 2, 2, 7, 5000, 1e4, 256, 1e-5)
    assert prefill(text, Prompt(3, 0, 0, 1), width=4).activation_bytes == 4 * (16 + 5000)


def test_pruning_before_a_later_layer_leaves_the_peak_where_it_is() -> None:
    prompt = Prompt(35, 3328, 64, 2)
    pruned, whole = (prefill(INTERNVL.text, case) for case in (prompt, prompt.unpruned()))
    assert pruned.activation_bytes == whole.activation_bytes
    assert pruned.kv_bytes < whole.kv_bytes / 10


@pytest.mark.parametrize("heads", [1, 16])
@pytest.mark.parametrize("mlp", [8, 4096])
@pytest.mark.parametrize("text_hidden", [4, 30000])
def test_activations_of_the_vision_tower(heads: int, mlp: int, text_hidden: int) -> None:
    spec = replace(INTERNVL.vision, heads=heads, mlp=mlp, hidden=64)
    d, patches, tokens = 64, 1024, 256
    n = patches + 1
    embedding = peak({"pixels": 3 * 448**2}, [("patches", patches * d, ("pixels",))])
    layer = peak(
        {"states": n * d},
        [
            ("norm1", n * d, ()),
            ("query", n * d, ()),
            ("key", n * d, ()),
            ("value", n * d, ("norm1",)),
            ("scores", heads * n * n, ("query", "key")),
            ("mixed", n * d, ("scores", "value")),
            ("out", n * d, ("mixed", "out")),
            ("norm2", n * d, ()),
            ("up", n * mlp, ("norm2",)),
            ("down", n * d, ("up", "down")),
        ],
    )
    projector = peak(
        {"merged": tokens * 4 * d},
        [
            ("linear1", tokens * text_hidden, ("merged",)),
            ("linear2", tokens * text_hidden, ("linear1",)),
        ],
    )
    found = vision(spec, text_hidden, tiles=2, width=4).activation_bytes
    assert found == 2 * 4 * max(embedding, layer, projector)


@pytest.mark.parametrize("attention", ["dense", "causal"])
def test_halves_are_half(attention: Attention) -> None:
    prompt = Prompt(TEXT, VISUAL, 4, LAYER)
    narrow, wide = (
        prefill(INTERNVL.text, prompt, attention=attention, width=width) for width in (2, 4)
    )
    assert wide == (narrow.macs, *(2 * size for size in narrow[1:]))


# Selection


def comparisons(
    monkeypatch: pytest.MonkeyPatch, features: np.ndarray[Any, Any], parameters: PruneParameters
) -> int:
    """How many pairs of tokens the definition compares; token 0 is the most important."""
    tokens, made = len(features), 0
    original = reference.similarity

    def similarity(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return original(*arguments)

    monkeypatch.setattr(reference, "similarity", similarity)
    importance = np.arange(tokens, 0, -1, dtype=np.float32)
    ones, grid = np.ones(tokens, np.float32), np.zeros((tokens, 2), np.float32)
    reference.select(features.astype(np.float32), importance, ones, grid, parameters)
    return made


@pytest.mark.parametrize("pivots_block", [False, True])
def test_no_selection_exceeds_the_most(monkeypatch: pytest.MonkeyPatch, pivots_block: bool) -> None:
    """A set one token short, then tokens whose only neighbour is compared last: just the most."""
    parameters = PruneParameters(
        keep=20, alpha=1.0, theta=0.9, pivot_ratio=0.5, pivots_block=pivots_block
    )
    tokens, pivots = 60, 10
    kinds = np.arange(tokens)
    kinds[pivots + 9 :] = pivots + 8
    features = np.eye(tokens)[kinds]
    most = selection(parameters, tokens, 1).most
    made = comparisons(monkeypatch, features, parameters)
    assert made + tokens == most  # a norm has as many MACs as a comparison
    random = np.random.default_rng(0).normal(size=(tokens, 3))
    assert 0 < comparisons(monkeypatch, random, parameters) + tokens < most


def test_typical_selection_compares_each_token_with_a_set_half_full_on_average() -> None:
    parameters = PruneParameters(keep_permille=100)  # 332 of 3328: 232 pivots, 100 more
    found = selection(parameters, 3328, 4096)
    assert found.typical == (3328 + (3328 - 232) * 99 // 2) * 4096
    assert (
        found.typical < found.most < 0.001 * prefill(INTERNVL.text, Prompt(35, 3328, 332, 2)).macs
    )


@pytest.mark.parametrize(
    "parameters", [PruneParameters(keep=50), PruneParameters(keep=20, pivot_ratio=1.0)]
)
def test_nothing_to_compare(parameters: PruneParameters) -> None:
    """All tokens stay, or all that stay are pivots."""
    assert selection(parameters, 50, 8) == (0, 0)
