"""The report of a bundle: with what it stores, with what was measured since, and with neither."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import d2export
from d2export.bundle.folder import file_entry, read_bundle, write_manifest
from d2export.models.presets import INTERNVIT_300M, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from d2export.pipeline import export
from d2export.pruning.prior import Prior, prior_document
from d2export.report.collect import collect
from d2export.report.selections import read_selections
from d2export.report.write import write_report
from d2export.runtime.generate import kept_per_image
from d2export.session import rebuild
from d2export.verify.vlm_reference import read_vlm_reference
from tests.command import ENVIRONMENT, Caller
from tests.sample_bundle import renew
from tests.small_tokenizers import write_qwen2

VISION = replace(
    INTERNVIT_300M,
    image=replace(INTERNVIT_300M.image, size=56),
    hidden=64, layers=1, used_layers=1, heads=4, mlp=128,
)  # fmt: skip
TEXT = TextSpec("qwen2", 64, 3, 4, 2, 128, 512, 1e4, 512, 1e-6)
SPEC = ModelSpec("small", "internvl", None, VISION, TEXT, weight_dtype="F32")
PER_TILE = VISION.tokens_per_tile


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scope vlm, with a tokenizer and a prior, about two pictures, measured."""
    folder = tmp_path_factory.mktemp("built")
    write_random_checkpoint(SPEC, folder / "checkpoint", 0, scope="vlm")
    write_qwen2(folder / "checkpoint")
    slots = np.linspace(1, 2, PER_TILE, dtype=np.float32)
    (folder / "prior.json").write_text(json.dumps(prior_document(Prior(slots, slots))))
    random = np.random.default_rng(0)
    pictures = []
    for name, size in {"wide": (112, 56), "square": (56, 56)}.items():
        pictures.append(folder / f"{name}.png")
        values = random.integers(0, 255, (*reversed(size), 3), np.uint8)
        Image.fromarray(values).save(pictures[-1])
    options = d2export.ExportOptions(
        str(folder / "checkpoint"),
        scope="vlm",
        keep="25%",
        prior=str(folder / "prior.json"),
        images=tuple(pictures),
        prompt="where is it?",
    )
    export(options, folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "bundle")


def test_what_a_build_stores_is_in_its_report(built: Path) -> None:
    data = collect(read_bundle(built))
    assert [picture.name for picture in data.pictures] == ["wide", "square"]
    assert [keep.label for keep in data.keeps] == ["5 %", "10 %", "15 %", "25 %", "50 %", "all"]
    assert data.built is not None
    assert data.built.label == "25 %"
    for picture, entry in zip(data.pictures, read_bundle(built).manifest.references, strict=True):
        reference = read_vlm_reference(built / entry.path)
        (expected,) = kept_per_image(reference.encoded(), reference.positions)
        np.testing.assert_array_equal(picture.kept[data.keeps.index(data.built)], expected)
        assert picture.prompt == "where is it?"
        assert picture.answer is not None
        assert picture.prior is not None
        np.testing.assert_allclose(picture.raw / picture.prior, picture.debiased, rtol=1e-5)
        assert 0 < picture.raw.sum() < 1  # a share of the attention, the rest is on text
    assert (data.check, data.stages[0].latency, data.environment) == (None, None, ())


def test_the_built_selection_is_the_one_of_its_share(built: Path) -> None:
    """The same rule on the same values, once by the decoder's op and once for the report."""
    for path in (built / "selections").iterdir():
        kept = read_selections(path).kept
        np.testing.assert_array_equal(kept["built"], kept["250"])


def test_a_bundle_that_is_measured_elsewhere(bundle: Path) -> None:
    assert not (bundle / "report.html").exists()
    rebuild(bundle)
    page = (bundle / "report.html").read_text()
    assert "Nothing was compared with PyTorch" not in page
    assert "Not noted" not in page
    assert "from Python: " in page
    data = collect(read_bundle(bundle))
    assert data.check is not None
    assert data.check.passed
    (times,) = json.loads((bundle / "report.json").read_text())["latency_ms"]
    timed = {stage.name: stage.latency for stage in data.stages}
    assert timed["Prefill"] is not None
    assert timed["Prefill"].median == times["prefill"]["median"]
    assert timed["Prefill, nothing pruned"] is None
    read_bundle(bundle)  # as whole as before


def test_the_command_needs_no_torch(bundle: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from d2export.cli import main\n"
        "main(['report', sys.argv[1]])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, bundle], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == str(bundle / "report.html")
    model = read_bundle(bundle).manifest.model.name
    assert f"<h1>{model}</h1>" in (bundle / "report.html").read_text()


def test_the_command(d2: Caller, bundle: Path) -> None:
    assert json.loads(d2("report", bundle, "--json").out) == {"report": str(bundle / "report.html")}
    (bundle / "report.json").write_text("{")
    message = d2.refused("report", bundle)
    assert message.startswith(f"{bundle / 'report.json'} cannot be read: ")


def test_a_bundle_from_before(bundle: Path) -> None:
    """Without stored selections it opens, and its report says what is missing."""
    shutil.rmtree(bundle / "selections")
    manifest = read_bundle(bundle, verify=False).manifest
    files = {path: e for path, e in manifest.files.items() if not path.startswith("selections/")}
    write_manifest(bundle, replace(manifest, files=files))
    read_bundle(bundle)
    page = write_report(bundle).read_text()
    assert "stores no selections" in page
    assert "an older d2export built it" in page


def test_selections_of_other_tiles_are_refused(bundle: Path) -> None:
    wide, square = (bundle / "selections" / f"{name}.npz" for name in ("wide", "square"))
    shutil.copyfile(wide, square)
    renew(bundle, "selections/square.npz")
    with pytest.raises(d2export.D2ExportError, match="has other tiles than"):
        write_report(bundle)


def test_scope_vision(small_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_bundle, tmp_path / "bundle")
    page = write_report(copy).read_text()
    data = collect(read_bundle(copy))
    assert data.built is not None
    assert (data.built.label, data.built.kept) == ("3", 3 * len(data.pictures))
    assert "Prefill behind it, kept tokens" in page
    assert data.unit.startswith("of the attention of the vision tower's CLS token")


@pytest.mark.parametrize(
    ("selector", "importance", "settings", "said"),
    [
        ("divprune", None, {}, "DivPrune reads no importance"),
        ("random", "random", {"seed": 0}, "importance 'random', which is nothing: a seeded order"),
    ],
)
def test_a_selector_without_importance(
    small_bundle: Path,
    tmp_path: Path,
    selector: str,
    importance: Any,
    settings: dict[str, Any],
    said: str,
) -> None:
    copy = shutil.copytree(small_bundle, tmp_path / "bundle")
    manifest = read_bundle(copy).manifest
    files = dict(manifest.files)
    for path in (copy / "selections").iterdir():
        replace(read_selections(path), importance=None).save(path)
        files[f"selections/{path.name}"] = file_entry(path)
    other = replace(
        manifest.selector,
        name=selector,  # type: ignore[arg-type]
        importance=importance,
        settings=settings,
        importance_layer=None,
        position_ids="contiguous" if selector == "divprune" else "original",
    )
    write_manifest(copy, replace(manifest, selector=other, files=files))
    page = write_report(copy).read_text()
    assert said.replace("'", "&#x27;") in page
    assert "Raw importance" not in page
    assert 'class="layer k0' in page


def test_more_pictures_than_fit_are_named(small_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_bundle, tmp_path / "bundle")
    manifest = read_bundle(copy).manifest
    one = manifest.references[0]
    many = tuple(replace(one, name=f"picture-{i}") for i in range(8))
    write_manifest(copy, replace(manifest, references=many))
    page = write_report(copy).read_text()
    assert page.count("<figcaption><strong>picture-") == 6
    assert "Not shown, to keep this file small: picture-6, picture-7." in page
