"""A vision graph whose visual tokens come tile by tile."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from d2export.errors import BundleError
from d2export.packaging.onnx_edits import tile_by_tile, weight_files


def test_tokens_are_the_same_tile_by_tile(vlm_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vlm_bundle / "onnx", tmp_path / "onnx")
    model = folder / "vision.onnx"
    (folder / "tiles.onnx").write_bytes(tile_by_tile(model.read_bytes(), 4, 64))
    before, after = ort.InferenceSession(model), ort.InferenceSession(folder / "tiles.onnx")
    (output,) = after.get_outputs()
    assert (output.name, output.shape, output.type) == (
        "tile_embeds",
        ["tiles", 4, 64],
        "tensor(float)",
    )
    pixels = np.random.default_rng(0).normal(size=(3, 3, 56, 56)).astype(np.float32)
    (tokens,) = before.run(["image_embeds"], {"pixel_values": pixels})
    (tiles,) = after.run(None, {"pixel_values": pixels})
    np.testing.assert_array_equal(tiles.reshape(tokens.shape), tokens)
    # A tile alone is what it is among others, up to the order of sums in larger products.
    (alone,) = after.run(None, {"pixel_values": pixels[1:2]})
    np.testing.assert_allclose(alone[0], tiles[1], rtol=1e-5, atol=1e-6)


def test_weight_files_are_what_onnx_says(vlm_bundle: Path) -> None:
    for name in ("vision.onnx", "decoder.onnx"):
        graph = onnx.load(str(vlm_bundle / "onnx" / name), load_external_data=False).graph
        entries = [entry for tensor in graph.initializer for entry in tensor.external_data]
        named = {entry.value for entry in entries if entry.key == "location"}
        assert named
        assert weight_files(vlm_bundle / "onnx" / name) == sorted(named)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff\xff")
    with pytest.raises(BundleError, match="is no ONNX file"):
        weight_files(tmp_path / "model.onnx")
    other = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    with pytest.raises(ValueError, match="no output image_embeds"):
        tile_by_tile(other.SerializeToString(), 4, 64)
