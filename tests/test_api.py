"""The functions of `import d2export`, as the README calls them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import d2export
from d2export.bundle.folder import Bundle, read_bundle
from d2export.errors import BundleError, UsageError
from d2export.models.safetensors_file import read_header
from d2export.pipeline import export
from tests.command import ENVIRONMENT, names
from tests.small_checkpoints import write_small_checkpoint

WEIGHTS = "onnx/model.safetensors"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One that a test may change."""
    return write_small_checkpoint(tmp_path / "checkpoint", "internvl")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (56, 56, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def options(checkpoint: Path, **more: object) -> d2export.ExportOptions:
    return d2export.ExportOptions(str(checkpoint), **{"keep": "3", **more})  # type: ignore[arg-type]


def test_importing_it_loads_nothing_heavy() -> None:
    program = "import sys, d2export; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.split())
    assert "d2export" in loaded
    assert loaded.isdisjoint({"numpy", "torch", "onnxruntime", "onnx", "PIL", "typer"})


def test_every_public_name_is_there_and_stays() -> None:
    """Modules of the same name must not take a function's place once they are imported."""
    for name in d2export.__all__:
        assert callable(getattr(d2export, name)), name
    for module in ("export.vision_graph", "pipeline", "session", "verify.check", "cli"):
        importlib.import_module(f"d2export.{module}")
    for name in d2export.__all__:
        assert callable(getattr(d2export, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'prune'"):
        _ = d2export.prune


def test_export_check_run(checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    """What README.md shows, with paths as strings."""
    bundle = export(options(checkpoint, images=(photo,)), str(tmp_path / "out"))
    assert isinstance(bundle, Bundle)
    assert bundle.root == tmp_path / "out"
    assert bundle == read_bundle(tmp_path / "out")
    assert [entry.name for entry in bundle.manifest.references] == ["photo"]
    assert d2export.check(str(bundle.root)).passed
    result = d2export.run(str(bundle.root), str(photo))
    assert result.image_embeds.shape == (3, 48)
    assert result.image_embeds.dtype == np.float32
    assert result.kept_indices.shape == (3,)
    assert result.kept_indices.dtype == np.int32
    assert (np.diff(result.kept_indices) > 0).all()
    assert result.tiles.pixels.shape == (1, 3, 56, 56)
    with np.load(bundle.root / "reference" / "photo.npz") as stored:
        assert result.kept_indices.tolist() == stored["kept_indices"].tolist()
        np.testing.assert_allclose(result.image_embeds, stored["image_embeds"], atol=1e-5)


def test_build_reports_and_says_nothing(
    checkpoint: Path, photo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = d2export.build(options(checkpoint, images=(photo,)), tmp_path / "out", threads=1)
    assert report.passed
    assert [case.name for case in report.accuracy.cases] == ["photo"]
    assert list(report.pytorch_seconds) == ["photo"]
    assert capfd.readouterr() == ("", "")
    assert names(tmp_path / "out") == [
        "build.log",
        "manifest.json",
        "onnx",
        "pictures",
        "reference",
        "report.html",
        "report.json",
        "selections",
    ]


def test_a_prompt_as_an_array(text_bundle: Path, photo: Path) -> None:
    prompt = np.random.default_rng(0).standard_normal((2, 48), np.float32)
    assert d2export.run(text_bundle, photo, prompt_embeds=prompt).image_embeds.shape == (3, 48)
    with pytest.raises(UsageError, match=r"has shape \[2, 47\], expected \[P, 48\]"):
        d2export.run(text_bundle, photo, prompt_embeds=prompt[:, 1:])


def test_errors_are_of_one_family(tmp_path: Path) -> None:
    with pytest.raises(d2export.D2ExportError) as caught:
        d2export.check(tmp_path)
    assert isinstance(caught.value, BundleError)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    with pytest.raises(d2export.D2ExportError, match=r"^--keep is 0: "):
        d2export.ExportOptions("pocket", keep="0")


@pytest.mark.parametrize(("keep", "kept"), [("25%", 13), ("all", 52), ("1", 1), ("60", 52)])
def test_keep(checkpoint: Path, tmp_path: Path, keep: str, kept: int) -> None:
    """A picture of 13 tiles has 52 tokens in the small model."""
    values = np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "large.png")
    chosen = options(checkpoint, keep=keep, images=(tmp_path / "large.png",))
    export(chosen, tmp_path / "out")
    (case,) = d2export.check(tmp_path / "out").cases
    assert case.tokens == 52
    assert case.kept == kept
    assert case.indices_equal


# Weights of a checkpoint in a folder


def test_weights_are_linked_not_copied(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(options(checkpoint), tmp_path / "out")
    linked, original = (bundle.root / WEIGHTS).stat(), (checkpoint / "model.safetensors").stat()
    assert linked.st_ino == original.st_ino
    assert original.st_nlink == 2
    assert bundle.manifest.weights.mode == "linked"
    assert bundle.manifest.weights.source == str(checkpoint)
    assert names(bundle.root / "onnx") == [
        "model.safetensors",
        "prune.onnx",
        "vision.onnx",
    ]
    graph = bundle.root / "onnx" / "vision.onnx"
    assert graph.stat().st_size < original.st_size / 2, "the graph holds no weights itself"


def test_weights_in_the_bundle_are_copies(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(options(checkpoint, weights_in_bundle=True), tmp_path / "out")
    (copied,) = (bundle.root / "onnx").glob("*.safetensors")
    assert copied.stat().st_nlink == 1
    assert (checkpoint / "model.safetensors").stat().st_nlink == 1
    assert bundle.manifest.weights.mode == "copied"
    assert bundle.manifest.weights.source is None
    assert not any("embed_tokens" in name for name in read_header(copied)), "only what is used"
    for path in checkpoint.iterdir():
        path.write_bytes(b"overwritten")
    assert d2export.check(bundle.root).passed


def test_a_checkpoint_may_be_moved_and_deleted(checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(options(checkpoint), tmp_path / "out").root
    moved = checkpoint.rename(tmp_path / "moved")
    assert d2export.check(bundle).passed
    (moved / "model.safetensors").unlink()
    assert d2export.check(bundle).passed


def test_a_checkpoint_changed_in_place_is_noticed(checkpoint: Path, tmp_path: Path) -> None:
    """A hard link shows the change; the digest of the bytes in use does not match any more."""
    bundle = export(options(checkpoint), tmp_path / "out").root
    used = read_header(checkpoint / "model.safetensors")["mlp1.3.weight"]
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(used.offset)
        file.write(b"\0\0\0\0")
    for look in (d2export.check, read_bundle):
        with pytest.raises(BundleError, match="was changed after the build") as caught:
            look(bundle)
        assert caught.value.problem.startswith(f"{bundle / WEIGHTS} was changed")
        assert caught.value.hint


def test_bytes_that_the_graph_does_not_use_may_change(checkpoint: Path, tmp_path: Path) -> None:
    """Digests cover what is used: a shard may hold gigabytes of the language model."""
    bundle = export(options(checkpoint), tmp_path / "out").root
    unused = read_header(checkpoint / "model.safetensors")
    table = unused["language_model.model.embed_tokens.weight"]
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(table.offset)
        file.write(b"\0\0\0\0")
    assert d2export.check(bundle).passed


def test_random_weights_leave_no_checkpoint_behind(pocket_bundle: Path) -> None:
    manifest = read_bundle(pocket_bundle).manifest
    assert manifest.model.source == "random"
    assert manifest.model.random_seed == 0
    assert manifest.model.trained is False
    assert manifest.weights.mode == "copied"
    assert ".checkpoint" not in names(pocket_bundle)
    (weights,) = (pocket_bundle / "onnx").glob("*.safetensors")
    assert weights.stat().st_nlink == 1
