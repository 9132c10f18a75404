"""The model in the package: what it is made of, that transformers reads it too, that it can see."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from d2export.evaluation.pytorch_model import load_model
from d2export.evaluation.scenes.task import pocket_scenes
from d2export.models.checkpoint import SHIPPED, Checkpoint, find_checkpoint
from d2export.models.decoder import KeyValue, causal_mask
from d2export.models.presets import preset
from d2export.models.tiling import normalize, tile

SCRIPTS = str(Path(__file__).parents[2] / "scripts")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return find_checkpoint("pocket", scope="vlm")


def test_it_is_the_preset(checkpoint: Checkpoint) -> None:
    assert checkpoint.folder == SHIPPED["pocket"]
    assert checkpoint.spec == preset("pocket")
    names = sorted(path.name for path in checkpoint.folder.iterdir())
    files = ["README.md", "chat_template.jinja", "config.json", "model.safetensors"]
    assert names == [*files, "tokenizer.json"]
    assert sum(path.stat().st_size for path in checkpoint.folder.iterdir()) < 9 * 2**20


def test_its_tokenizer_is_what_the_training_makes(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [SCRIPTS, *sys.path])
    from pocket.vocabulary import train_tokenizer, write_tokenizer

    write_tokenizer(train_tokenizer(), tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_text("utf-8") == (checkpoint.folder / path.name).read_text("utf-8")


def test_transformers_reads_it_and_answers_the_same(checkpoint: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.InternVLForConditionalGeneration.from_pretrained(
        checkpoint.folder, dtype=torch.float32
    ).eval()
    ours = load_model(checkpoint)
    sample = pocket_scenes(scenes=1).samples[0]
    tiles = tile(sample.load(), ours.spec.vision)
    encoded = ours.tokenizer.encode(sample.prompt, [len(tiles.grid)])
    shown = torch.from_numpy(normalize(tiles.pixels, ours.spec.vision.image))
    ids = torch.from_numpy(encoded.input_ids)[None]
    with torch.inference_mode():
        expected = theirs(input_ids=ids, pixel_values=shown).logits
        states = ours.text.embedding(ids)
        states[:, torch.from_numpy(encoded.visual_positions)] = ours.vision(shown).tokens.flatten(
            0, 1
        )
        rotation = ours.text.rotation(torch.arange(ids.shape[1])[None])
        mask = causal_mask(ids.shape[1], 0, states)
        for layer in ours.text.all_layers():
            heads = (1, layer.attention.kv_heads, 0, layer.attention.head_dim)
            states, _ = layer(
                states, rotation, mask, KeyValue(torch.empty(heads), torch.empty(heads))
            )
        found = ours.text.logits(states)
    # Above the tokenizer's last id there are rows that nothing has trained.
    known = int(ours.tokenizer.tokenizer.get_vocab_size())
    np.testing.assert_allclose(found[..., :known], expected[..., :known], rtol=1e-4, atol=1e-3)
