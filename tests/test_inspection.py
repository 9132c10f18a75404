"""What `inspect` says of a bundle, by what is in its manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from d2export.bundle.folder import Bundle
from d2export.bundle.records import Graph, Value
from d2export.counts_table import counts_text
from d2export.inspection import counts_of, summary
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from tests.sample_bundle import POCKET_TEXT, POCKET_VIT, sample_manifest

ROOT = Path("/bundles/pocket")


def whole_model(prune_layer: int) -> Bundle:
    """A bundle with the language model inside."""
    manifest = sample_manifest({})
    selector = replace(manifest.selector, importance="llm", prune_layer=prune_layer)
    names = [f"past_key_values.{index}.{part}" for index in range(4) for part in ("key", "value")]
    cache = tuple(Value(name, "float16", (1, 6, "past", 32)) for name in names)
    inputs = (Value("input_ids", "int64", (1, "sequence")), *cache)
    logits = Value("logits", "float32", (1, 512))
    graphs = replace(manifest.graphs, decoder=Graph("onnx/decoder.onnx", inputs, (logits,)))
    return Bundle(ROOT, replace(manifest, scope="vlm", selector=selector, graphs=graphs))


def test_a_bundle_with_the_language_model_says_what_each_stage_costs() -> None:
    expected = counts_text(
        POCKET_TEXT, POCKET_VIT, d2_plan(PruneParameters(keep=64), layer=3), 3328, 35
    )
    assert "prefill, pruned" in expected
    bundle = whole_model(prune_layer=3)
    assert counts_of(bundle) == expected
    assert summary(bundle).endswith(f"\n\n{expected}")


def test_values_are_as_wide_as_the_precision() -> None:
    bundle = whole_model(prune_layer=2)
    wide = replace(bundle, manifest=replace(bundle.manifest, precision="fp32"))
    assert "; 2 bytes a value" in counts_of(bundle)
    assert "; 4 bytes a value" in counts_of(wide)


def test_a_vision_bundle_has_no_stages_of_a_language_model() -> None:
    bundle = Bundle(ROOT, sample_manifest({}))
    assert counts_of(bundle) == ""
    assert "prefill" not in summary(bundle)
    assert "decoder graph" not in summary(bundle)


def test_keys_and_values_of_all_layers_are_one_line() -> None:
    lines = [line.strip() for line in summary(whole_model(prune_layer=2)).splitlines()]
    assert "importance     llm (attention of layer 1)" in lines
    assert "prunes         before layer 2 of the language model" in lines
    start = lines.index("decoder graph  onnx/decoder.onnx")
    assert lines[start + 1 : start + 4] == [
        "in  input_ids int64 [1, 'sequence']",
        "in  past_key_values.0.key ... past_key_values.3.value",
        "out  logits float32 [1, 512]",
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("below", "layer 1"),
        ("ahead", "layer 2, read ahead"),
        ("two", "layer 2 and layer 3, read ahead"),
        ("both", "layer 1, and of layer 2, read ahead"),
    ],
)
def test_which_layers_attention_is_importance(rows: str, said: str) -> None:
    bundle = whole_model(prune_layer=2)
    selector = replace(bundle.manifest.selector, name="d2+", settings={"rows": rows})
    ahead = replace(bundle, manifest=replace(bundle.manifest, selector=selector))
    lines = [line.strip() for line in summary(ahead).splitlines()]
    assert f"importance     llm (attention of {said})" in lines
