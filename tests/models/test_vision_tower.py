"""Our vision towers and projectors answer what the classes in transformers answer."""

from pathlib import Path

import pytest
import torch

from d2export.export.weights import load_into
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.models.presets import PRESETS
from d2export.models.vision_tower import Attention, Projector, VisionModel
from tests.small_checkpoints import write_small_checkpoint

transformers = pytest.importorskip("transformers")


def ours_and_theirs(folder: Path) -> tuple[VisionModel, torch.nn.Module]:
    """Both from one checkpoint in transformers' layout."""
    checkpoint = open_checkpoint(folder)
    ours = VisionModel(checkpoint.spec).eval()
    load_into(ours, layouts.resolve(checkpoint.tensors, checkpoint.spec))
    theirs = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return ours, theirs.eval()


@pytest.mark.parametrize("layout", ["internvl-hf", "llava-hf"])
def test_features_equal_transformers(layout, tmp_path):
    ours, theirs = ours_and_theirs(write_small_checkpoint(tmp_path, layout, seed=3))
    pixels = torch.randn(5, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs.model.get_image_features(pixels)
        expected = getattr(expected, "pooler_output", expected)
        features = ours(pixels).tokens
    expected = torch.stack(list(expected)) if isinstance(expected, (list, tuple)) else expected
    torch.testing.assert_close(features, expected.view_as(features), rtol=0, atol=5e-6)


@pytest.mark.parametrize("layout", ["internvl-hf", "llava-hf"])
def test_cls_attention_equals_the_first_row_of_the_full_map(layout, tmp_path):
    ours, theirs = ours_and_theirs(write_small_checkpoint(tmp_path, layout, seed=4))
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    layer = 1
    with torch.inference_mode():
        maps = theirs.model.vision_tower(pixels, output_attentions=True).attentions[layer]
        _, row = ours.tower(pixels, layer)
    torch.testing.assert_close(row, maps[:, :, 0, 1:], rtol=1e-4, atol=1e-7)


def test_a_merged_token_has_its_patches_attention():
    """Pixel shuffle puts patch (y, x) into token (y // 2, x // 2)."""
    projector = Projector(PRESETS["internvl2.5-1b"].vision, text_hidden=8)
    side = 32
    attention = torch.arange(side * side, dtype=torch.float32).view(1, 1, -1)
    merged = projector.merge_relation(attention).view(16, 16)
    patches = attention.view(side, side)
    assert merged[0, 0] == patches[0:2, 0:2].sum()
    assert merged[3, 5] == patches[6:8, 10:12].sum()


def test_the_cls_row_never_builds_the_full_map(monkeypatch):
    """One query row: the largest intermediate of `first_row` has L elements a head, not L * L."""
    attention, length = Attention(hidden=32, heads=4), 64
    sizes = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(
        torch.Tensor, "softmax", lambda x, dim: (sizes.append(x.numel()), softmax(x, dim))[1]
    )
    attention.first_row(torch.randn(1, length, 32))
    assert sizes == [4 * length]
