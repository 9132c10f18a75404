"""Whole small checkpoints: every layout gives the same language model, transformers' own too."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2export.errors import CheckpointError
from d2export.models.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from d2export.models.decoder import KeyValue, LanguageModel, causal_mask
from d2export.models.safetensors_file import TensorRef, load
from d2export.models.text_layouts import resolve_text
from tests.small_checkpoints import LayoutName, canonical_weights, write_small_checkpoint
from tests.small_language_models import Backbone, fused, language_weights

SMALL: list[tuple[LayoutName, Backbone]] = [
    ("internvl", "qwen2"),
    ("internvl", "llama"),
    ("internvl", "internlm2"),
    ("internvl-hf", "qwen2"),
    ("internvl-hf", "llama"),
    ("llava", "llama"),
    ("llava-hf", "llama"),
]
SAVED_BY_TRANSFORMERS = [case for case in SMALL if case[0].endswith("-hf")]


def expected_values(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """What is in a small checkpoint, under canonical names."""
    family, text = checkpoint.spec.family, checkpoint.spec.text
    weights = language_weights(family, text.backbone, seed=0)  # type: ignore[arg-type]
    weights["text.embedding.weight"] = canonical_weights(family)["embeddings"]
    if text.tied:
        del weights["text.head.weight"]
    if text.fused_qkv:
        for i in range(text.layers):
            names = [f"text.layers.{i}.attention.{part}.weight" for part in "qkv"]
            fused_name = f"text.layers.{i}.attention.qkv.weight"
            weights[fused_name] = fused(*(weights.pop(name) for name in names))
    return weights


def assert_same_values(checkpoint: Checkpoint) -> None:
    expected = expected_values(checkpoint)
    found = resolve_text(checkpoint.tensors, checkpoint.spec)
    assert found.keys() == expected.keys()
    for name, ref in found.items():
        np.testing.assert_array_equal(load(ref), expected[name], err_msg=name)


@pytest.mark.parametrize(("layout", "backbone"), SMALL)
@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied"])
@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "shards"])
def test_values_of_a_whole_checkpoint(
    tmp_path: Path, layout: LayoutName, backbone: Backbone, tied: bool, sharded: bool
) -> None:
    folder = write_small_checkpoint(tmp_path, layout, backbone=backbone, tied=tied, sharded=sharded)
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.spec.text.backbone, checkpoint.spec.text.tied) == (backbone, tied)
    assert_same_values(checkpoint)


@pytest.mark.parametrize(("layout", "backbone"), SAVED_BY_TRANSFORMERS)
@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied"])
def test_what_transformers_saves_has_the_same_values(
    tmp_path: Path, layout: LayoutName, backbone: Backbone, tied: bool
) -> None:
    import transformers

    folder = write_small_checkpoint(tmp_path / "a", layout, backbone=backbone, tied=tied)
    ours = open_checkpoint(folder)
    cls = getattr(transformers, ours.config["architectures"][0])
    model, report = cls.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert not [name for name in report["unexpected_keys"] if "language_model" in name]
    model.save_pretrained(tmp_path / "b")
    theirs = open_checkpoint(tmp_path / "b")
    assert theirs.spec.text == ours.spec.text
    assert_same_values(theirs)


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (r"^language_model\.model\.", "model.language_model."),  # as transformers holds them
        (r"^language_model\.model\.", "language_model."),
        (r"^language_model\.lm_head\.", "lm_head."),
    ],
)
@pytest.mark.parametrize(("layout", "backbone"), SAVED_BY_TRANSFORMERS)
def test_prefixes_of_other_transformers_versions(
    tmp_path: Path, layout: LayoutName, backbone: Backbone, pattern: str, by: str
) -> None:
    found = open_checkpoint(write_small_checkpoint(tmp_path, layout, backbone=backbone))
    tensors = {re.sub(pattern, by, name): ref for name, ref in found.tensors.items()}
    if pattern.endswith(r"model\."):
        tensors["lm_head.weight"] = tensors.pop("language_model.lm_head.weight")
    assert tensors.keys() != found.tensors.keys()
    assert_same_values(replace(found, tensors=tensors))


def test_internlm2_computes_what_llama_computes_with_its_projections_split(tmp_path: Path) -> None:
    def logits(backbone: Backbone) -> torch.Tensor:
        folder = write_small_checkpoint(tmp_path / backbone, "internvl", backbone=backbone)
        checkpoint = open_checkpoint(folder)
        text = checkpoint.spec.text
        model = LanguageModel(text).eval()
        refs = resolve_text(checkpoint.tensors, checkpoint.spec)
        model.load_state_dict(
            {name.removeprefix("text."): torch.from_numpy(load(ref)) for name, ref in refs.items()}
        )
        states, rotation = model.embedding(prompt), model.rotation(torch.arange(20).unsqueeze(0))
        nothing = torch.empty(1, text.kv_heads, 0, text.head_dim)
        for layer in model.all_layers():
            mask = causal_mask(20, 0, states)
            states, _ = layer(states, rotation, mask, KeyValue(nothing, nothing))
        return model.logits(states)

    prompt = torch.randint(100, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        split, together = logits("llama"), logits("internlm2")
    assert split.std() > 1
    torch.testing.assert_close(together, split, rtol=1e-5, atol=1e-5)


def test_computed_buffers_of_internlm2_are_no_surplus(tmp_path: Path) -> None:
    found = open_checkpoint(write_small_checkpoint(tmp_path, "internvl", backbone="internlm2"))
    buffers = {
        f"language_model.model.layers.{i}.attention.rotary_emb.inv_freq": TensorRef(
            Path("x"), 0, 24, "F32", (6,)
        )
        for i in range(4)
    }
    assert_same_values(replace(found, tensors={**found.tensors, **buffers}))


def test_scope_vision_does_without_the_shards_of_the_language_model(tmp_path: Path) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl", backbone="internlm2", sharded=True)
    index = folder / "model.safetensors.index.json"
    moved = "language_model.model.layers.3.ffn_norm.weight"
    text = index.read_text()
    index.write_text(re.sub(rf'("{moved}": )"[^"]*"', r'\1"llm.safetensors"', text))
    assert moved not in find_checkpoint(str(folder)).tensors
    with pytest.raises(CheckpointError, match=rf"'llm.safetensors' is missing .* '{moved}'"):
        find_checkpoint(str(folder), scope="vlm")
