"""Weights are referenced where they lie, or copied byte for byte."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from d2export.engine.onnxruntime import open_session
from d2export.export.vision_graph import write_graphs
from d2export.export.weights import COPY_NAME, place, stored_prior_slots, stored_refs
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.models.safetensors_file import load
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from d2export.pruning.prior import Prior
from tests.small_checkpoints import write_small_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    folder = write_small_checkpoint(tmp_path / "checkpoint", "internvl", sharded=True, dtype="BF16")
    return open_checkpoint(folder)


@pytest.fixture
def refs(checkpoint):
    return layouts.resolve(checkpoint.tensors, checkpoint.spec)


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "onnx"
    folder.mkdir()
    return folder


def test_a_link_is_the_same_file(checkpoint, refs, target):
    placed = place(refs, target, copy=False)
    assert placed.mode == "linked"
    assert sorted(path.name for path in target.iterdir()) == sorted(
        path.name for path in checkpoint.folder.glob("*.safetensors")
    )
    for path in target.iterdir():
        assert path.samefile(checkpoint.folder / path.name)
        assert not path.is_symlink()


def test_a_checkpoint_of_symbolic_links_is_linked_to_the_files_behind_them(
    checkpoint, refs, tmp_path, target
):
    """The layout of the hub's cache: snapshots/REVISION/NAME -> ../../blobs/DIGEST."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(checkpoint.folder.glob("*.safetensors"))):
        path.rename(blobs / str(number))
        path.symlink_to(os.path.relpath(blobs / str(number), path.parent))
    placed = place(refs, target, copy=False)
    assert placed.mode == "linked"
    assert not any(path.is_symlink() for path in target.iterdir())
    name = "tower.layers.1.attention.k.weight"
    np.testing.assert_array_equal(load(placed.refs[name]), load(refs[name]))


def test_a_copy_has_the_same_bytes_of_what_is_used_and_nothing_else(refs, target):
    placed = place(refs, target, copy=True)
    assert placed.mode == "copied"
    assert [path.name for path in target.iterdir()] == [COPY_NAME]
    assert placed.refs.keys() == refs.keys()
    for name, ref in refs.items():
        assert placed.refs[name].dtype == "BF16"
        np.testing.assert_array_equal(load(placed.refs[name]), load(ref))
    used = sum(ref.nbytes for ref in refs.values())
    assert used < (target / COPY_NAME).stat().st_size < used + 20_000


def test_across_file_systems_the_weights_are_copied(refs):
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        placed = place(refs, Path(folder), copy=False)
        assert placed.mode == "copied"
        assert [path.name for path in Path(folder).iterdir()] == [COPY_NAME]


@pytest.mark.parametrize("copy", [False, True])
def test_the_graph_says_where_every_weight_lies(checkpoint, refs, target, copy):
    prior = Prior(np.arange(1, 5, dtype=np.float32), np.full(4, 2, np.float32))
    write_graphs(
        target,
        checkpoint.spec,
        refs,
        d2_plan(PruneParameters(keep=2), "cls", 1),
        prior=prior,
        precision="fp32",
        opset=17,
        copy_weights=copy,
    )
    graph = target / "vision.onnx"
    found, found_prior = stored_refs(graph), stored_prior_slots(graph)
    assert found.keys() == refs.keys()
    for name, ref in found.items():
        assert ref.path.parent == target
        np.testing.assert_array_equal(load(ref), load(refs[name]).reshape(ref.shape))
    np.testing.assert_array_equal(found_prior.tile, prior.tile)
    np.testing.assert_array_equal(found_prior.thumbnail, prior.thumbnail)
    assert open_session(target / "vision.onnx").get_inputs()[0].name == "pixel_values"
    if copy:  # links are refused by onnx, see docs/bundle.md
        onnx.checker.check_model(os.fspath(target / "vision.onnx"), full_check=True)


def test_a_bundle_keeps_its_weights_when_the_checkpoint_goes(checkpoint, refs, target):
    placed = place(refs, target, copy=False)
    name = "tower.layers.0.mlp.up.weight"
    before = load(placed.refs[name])
    for path in checkpoint.folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(load(placed.refs[name]), before)
