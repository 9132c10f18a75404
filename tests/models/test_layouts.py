from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d2export.errors import CheckpointError
from d2export.models.checkpoint import Checkpoint, open_checkpoint
from d2export.models.layouts import is_needed, parameter_shapes, prompt_embedding, resolve
from d2export.models.presets import preset
from d2export.models.safetensors_file import load
from tests.small_checkpoints import (
    LAYOUT_NAMES,
    LayoutName,
    canonical_weights,
    write_small_checkpoint,
)


def renamed(checkpoint: Checkpoint, pattern: str, by: str) -> Checkpoint:
    tensors = {re.sub(pattern, by, name): ref for name, ref in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=tensors)


@pytest.fixture(params=LAYOUT_NAMES)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write_small_checkpoint(tmp_path / "small", request.param))


def test_every_parameter_is_found_with_its_values(checkpoint: Checkpoint) -> None:
    weights = canonical_weights(checkpoint.spec.family)
    found = resolve(checkpoint.tensors, checkpoint.spec)
    assert found.keys() == parameter_shapes(checkpoint.spec).keys()
    for name, ref in found.items():
        assert ref.shape == weights[name].shape
        np.testing.assert_array_equal(load(ref), weights[name], err_msg=name)


def test_llava_leaves_out_the_last_layer(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, "llava"))
    layers = {
        name.split(".")[2]
        for name in resolve(checkpoint.tensors, checkpoint.spec)
        if name.startswith("tower.layers.")
    }
    assert layers == {"0", "1"}
    assert "model.vision_tower.vision_tower.vision_model.encoder.layers.2.mlp.fc1.bias" in (
        checkpoint.tensors
    )


@pytest.mark.parametrize(
    ("layout", "pattern", "by"),
    [
        ("internvl-hf", "^(vision_tower|multi_modal_projector)", r"model.\1"),
        ("llava-hf", "^(vision_tower|multi_modal_projector)", r"model.\1"),
        ("llava-hf", r"^vision_tower\.vision_model", "vision_tower"),  # transformers 5
        ("llava-hf", r"^vision_tower\.vision_model", "model.vision_tower"),
    ],
)
def test_prefixes_of_other_transformers_versions(
    tmp_path: Path, layout: LayoutName, pattern: str, by: str
) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, layout))
    expected = resolve(checkpoint.tensors, checkpoint.spec)
    other = renamed(checkpoint, pattern, by)
    assert other.tensors.keys() != checkpoint.tensors.keys()
    assert resolve(other.tensors, other.spec) == expected
    assert all(is_needed(name) for name in other.tensors)


def test_fused_query_key_value_are_row_ranges(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, "internvl"))
    found = resolve(checkpoint.tensors, checkpoint.spec)
    fused = checkpoint.tensors["vision_model.encoder.layers.1.attn.qkv.weight"]
    parts = [found[f"tower.layers.1.attention.{part}.weight"] for part in "qkv"]
    third = 64 * 64 * 4
    assert [part.offset - fused.offset for part in parts] == [0, third, 2 * third]
    assert [part.nbytes for part in parts] == [third] * 3


def test_missing_tensors_are_counted_and_three_are_named(checkpoint: Checkpoint) -> None:
    tensors = {n: r for n, r in checkpoint.tensors.items() if not n.endswith("fc1.bias")}
    tensors.pop(
        next(
            n
            for n in tensors
            if n.endswith("encoder.layers.0.mlp.fc1.weight")
            or n.endswith("encoder.layer.0.mlp.fc1.weight")
        )
    )
    used = checkpoint.spec.vision.used_layers
    with pytest.raises(CheckpointError, match=rf": {used + 1} of \d+ tensors are missing") as e:
        resolve(tensors, checkpoint.spec)
    assert e.value.problem.count("fc1") == 3


def test_a_wrong_shape_is_named(checkpoint: Checkpoint) -> None:
    spec = replace(checkpoint.spec, vision=replace(checkpoint.spec.vision, mlp=130))
    problem = r"fc1.*has shape \[128, 64\], expected \[130, 64\]"
    with pytest.raises(CheckpointError, match=problem):
        resolve(checkpoint.tensors, spec)


def test_only_axes_of_size_one_may_differ(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, "internvl"))
    name = "vision_model.embeddings.position_embedding"
    assert checkpoint.tensors[name].shape == (1, 17, 64)
    assert resolve(checkpoint.tensors, checkpoint.spec)["tower.position_embedding"].shape == (
        17,
        64,
    )
    turned = {**checkpoint.tensors, name: replace(checkpoint.tensors[name], shape=(1, 64, 17))}
    with pytest.raises(CheckpointError, match=r"has shape \[1, 64, 17\], expected \[17, 64\]"):
        resolve(turned, checkpoint.spec)


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, "internvl"))
    name = "mlp1.1.weight"
    ints = {**checkpoint.tensors, name: replace(checkpoint.tensors[name], dtype="I32")}
    with pytest.raises(CheckpointError, match=r"'mlp1.1.weight'.*dtype I32, expected F32 or F16"):
        resolve(ints, checkpoint.spec)


def test_an_unknown_layout_says_what_is_there_and_what_is_supported(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, "llava-hf"))
    other = renamed(checkpoint, "^", "base_model.")
    with pytest.raises(CheckpointError, match="unknown checkpoint layout") as e:
        resolve(other.tensors, other.spec)
    assert "base_model.language_model.model.embed_tokens.weight" in e.value.problem
    assert "'vision_tower.vision_model.*' (llava-hf)" in e.value.problem


def test_prompt_embedding(checkpoint: Checkpoint) -> None:
    ref = prompt_embedding(checkpoint.tensors, checkpoint.spec)
    assert ref is not None
    np.testing.assert_array_equal(
        load(ref), canonical_weights(checkpoint.spec.family)["embeddings"]
    )
    without = {n: r for n, r in checkpoint.tensors.items() if "embed_tokens" not in n}
    assert prompt_embedding(without, checkpoint.spec) is None
    wider = replace(checkpoint.spec, text=replace(checkpoint.spec.text, hidden=50))
    with pytest.raises(CheckpointError, match=r"has shape \[100, 48\], expected \[100, 50\]"):
        prompt_embedding(checkpoint.tensors, wider)


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.tok_embeddings.weight",
        "model.language_model.embed_tokens.weight",
        "language_model.embed_tokens.weight",
    ],
)
def test_prompt_embedding_under_other_names(tmp_path: Path, name: str) -> None:
    checkpoint = open_checkpoint(write_small_checkpoint(tmp_path, "internvl"))
    other = renamed(checkpoint, r".*embed_tokens\.weight", name)
    assert prompt_embedding(other.tensors, other.spec) is not None
    assert is_needed(name)


def test_what_only_the_language_model_needs_is_not_needed() -> None:
    assert not is_needed("language_model.model.layers.0.attention.wqkv.weight")
    assert not is_needed("model.layers.0.self_attn.q_proj.weight")
    assert not is_needed("language_model.output.weight")
    assert not is_needed("model.language_model.norm.weight")


def test_parameter_counts_of_the_published_towers() -> None:
    def count(name: str, part: str) -> int:
        shapes = parameter_shapes(preset(name))
        return sum(int(np.prod(s)) for n, s in shapes.items() if n.startswith(part))

    assert count("internvl2.5-8b", "tower.") == 304_012_288  # InternViT-300M-448px
    assert count("internvl2.5-8b", "projector.") == 33_570_816
    assert count("llava-1.5-7b", "projector.") == 20_979_712
    # CLIP ViT-L/14-336 has 303,507,456; its last layer and final norm are not used
    assert count("llava-1.5-7b", "tower.") == 303_507_456 - 12_596_224 - 2_048
