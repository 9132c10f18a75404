"""The language model's weights are found in every layout, and nothing is passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d2export.errors import CheckpointError
from d2export.models.checkpoint import open_checkpoint
from d2export.models.presets import PRESETS, ModelSpec, TextSpec, preset
from d2export.models.random_weights import random_bytes, write_random_checkpoint
from d2export.models.safetensors_file import TensorRef, load
from d2export.models.text_layouts import (
    INTERNLM2,
    LLAMA_LAYOUTS,
    TextLayout,
    resolve_text,
    text_shapes,
)

QWEN = TextSpec("qwen2", 64, 2, 4, 2, 96, 101, 1e6, 256, 1e-6)
LLAMA = replace(QWEN, backbone="llama", kv_heads=4)
INTERNLM = replace(QWEN, backbone="internlm2")


def spec_of(text: TextSpec) -> ModelSpec:
    return replace(preset("pocket"), name="small", text=text)


def stored(layout: TextLayout, text: TextSpec) -> dict[str, TensorRef]:
    """References as a checkpoint in that layout has them, each at an offset of its own."""
    return {
        layout.stored_name(name): TensorRef(Path("x"), number, 1, "F32", shape)
        for number, (name, shape) in enumerate(text_shapes(text).items())
    }


@pytest.mark.parametrize("layout", LLAMA_LAYOUTS, ids=lambda layout: layout.prefix + layout.head)
@pytest.mark.parametrize("text", [QWEN, LLAMA], ids=["qwen2", "llama"])
def test_every_layout(layout: TextLayout, text: TextSpec) -> None:
    found = resolve_text(stored(layout, text), spec_of(text))
    assert [ref.offset for ref in found.values()] == list(range(len(text_shapes(text))))


def test_internlm2() -> None:
    tensors = stored(INTERNLM2, INTERNLM)
    assert tensors["language_model.model.layers.1.attention.wqkv.weight"].shape == (128, 64)
    assert {"language_model.output.weight", "language_model.model.norm.weight"} <= tensors.keys()
    assert resolve_text(tensors, spec_of(INTERNLM)).keys() == text_shapes(INTERNLM).keys()


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("internvl2.5-1b", 630),
        ("internvl2.5-2b", 1889),
        ("internvl2.5-4b", 3396),
        ("internvl2.5-8b", 7738),
        ("llava-1.5-7b", 6739),
        ("llava-1.5-13b", 13017),
    ],
)
def test_parameters_of_the_published_language_models(name: str, millions: int) -> None:
    shapes = text_shapes(PRESETS[name].text)
    assert round(sum(int(np.prod(shape)) for shape in shapes.values()) / 1e6) == millions


@pytest.mark.parametrize("text", [QWEN, INTERNLM, replace(QWEN, tied=True)], ids=str)
def test_random_weights_are_complete_and_read_back(tmp_path: Path, text: TextSpec) -> None:
    spec = replace(spec_of(text), weight_dtype="BF16")
    checkpoint = write_random_checkpoint(spec, tmp_path, seed=3, scope="vlm")
    assert checkpoint.spec.text == text
    assert open_checkpoint(tmp_path).spec.text == text
    refs = resolve_text(checkpoint.tensors, checkpoint.spec)
    assert {name: ref.shape for name, ref in refs.items()} == text_shapes(text)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size - random_bytes(spec, "vlm") < 40_000  # the header
    values = {name: load(ref) for name, ref in refs.items()}
    for name, array in values.items():
        assert np.isfinite(array).all()
        assert 0.01 < array.std() < 3.5, name
    assert abs(values["text.layers.1.norm2.weight"].mean() - 1) < 0.1


def test_a_head_beside_a_config_that_ties_it_is_used(tmp_path: Path) -> None:
    write_random_checkpoint(spec_of(QWEN), tmp_path, seed=0, scope="vlm")
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    )
    assert open_checkpoint(tmp_path).spec.text == QWEN


def refused(tensors: dict[str, TensorRef], text: TextSpec = QWEN) -> str:
    with pytest.raises(CheckpointError) as caught:
        resolve_text(tensors, spec_of(text))
    return str(caught.value)


def test_missing_tensors_are_named() -> None:
    tensors = stored(LLAMA_LAYOUTS[0], QWEN)
    del tensors["language_model.model.layers.1.mlp.up_proj.weight"]
    assert refused(tensors).startswith(
        "small: 1 of 27 tensors of the language model are missing: "
        "language_model.model.layers.1.mlp.up_proj.weight"
    )


@pytest.mark.parametrize(
    ("name", "meaning", "hint"),
    [
        ("layers.2.mlp.up_proj.weight", "are unknown", "config.json does not belong"),
        ("layers.0.self_attn.q_norm.weight", "are unknown", "computes something else"),
        ("layers.0.mlp.up_proj.lora_A.weight", "belong to an adapter", "Merge it"),
        ("layers.0.mlp.up_proj.qweight", "belong to a quantized checkpoint", "Use the original"),
        ("layers.0.mlp.up_proj.weight_scale_inv", "belong to a quantized", "Use the original"),
        ("layers.0.mlp.up_proj.weight.absmax", "belong to a quantized", "Use the original"),
    ],
)
def test_surplus_tensors_are_named(name: str, meaning: str, hint: str) -> None:
    tensors = stored(LLAMA_LAYOUTS[0], QWEN)
    tensors[f"language_model.model.{name}"] = TensorRef(Path("x"), 0, 1, "F32", (1,))
    problem, advice = refused(tensors).split("\n")
    assert problem.startswith(f"small: 1 tensors of the language model {meaning}")
    assert problem.endswith(f": language_model.model.{name}")
    assert hint in advice


@pytest.mark.parametrize(
    "name", ["language_model.lm_head.bias", "lm_head.weight", "language_model.score.weight"]
)
def test_what_is_beside_the_layers_is_surplus_too(name: str) -> None:
    tensors = stored(LLAMA_LAYOUTS[0], QWEN)
    tensors[name] = TensorRef(Path("x"), 0, 1, "F32", (1,))
    problem = f"are unknown; leaving them out would change what the model answers: {name}"
    assert problem in refused(tensors)


def test_what_is_foreign_is_named_before_what_it_replaces() -> None:
    tensors = stored(LLAMA_LAYOUTS[0], QWEN)
    quantized = {
        name.replace("_proj.weight", f"_proj.{part}"): replace(ref, dtype="I32")
        for name, ref in tensors.items()
        for part in ("qweight", "qzeros", "scales")
    }
    problem = refused(quantized)
    assert "small: 42 tensors of the language model belong to a quantized checkpoint" in problem
    assert "layers.0.mlp.down_proj.qweight, " in problem


def test_computed_buffers_and_the_vision_tower_are_no_surplus() -> None:
    text = LLAMA
    tensors = stored(LLAMA_LAYOUTS[-1], text)
    for name in (
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding",
        "model.mm_projector.0.weight",
    ):
        tensors[name] = TensorRef(Path("x"), 0, 1, "F32", (1,))
    assert resolve_text(tensors, spec_of(text))


def test_a_wrong_shape_is_named() -> None:
    tensors = stored(LLAMA_LAYOUTS[0], QWEN)
    name = "language_model.model.embed_tokens.weight"
    tensors[name] = replace(tensors[name], shape=(100, 64))
    problem = "tensor 'language_model.model.embed_tokens.weight' in 'x' has shape [100, 64]"
    assert refused(tensors).startswith(f"{problem}, expected [101, 64]")


def test_another_dtype_is_named() -> None:
    tensors = stored(INTERNLM2, INTERNLM)
    name = "language_model.model.layers.0.feed_forward.w2.weight"
    tensors[name] = replace(tensors[name], dtype="F8_E4M3")
    problem = f"tensor '{name}' in 'x' has dtype F8_E4M3, expected F32 or F16 or BF16"
    assert refused(tensors, INTERNLM).startswith(problem)


def test_a_checkpoint_without_a_language_model() -> None:
    tower = {"vision_model.embeddings.class_embedding": TensorRef(Path("x"), 0, 1, "F32", (1,))}
    assert refused(tower).startswith(
        "small: none of the 1 tensors belongs to a qwen2 language model (first names: vision_model"
    )
