"""Bundles that the C++ runtime is asked about as Python is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from d2export.evaluation.scenes.task import pocket_scenes
from d2export.models.presets import INTERNVIT_300M, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from tests.small_tokenizers import write_qwen2

VISION = replace(
    INTERNVIT_300M,
    image=replace(INTERNVIT_300M.image, size=56),
    hidden=64, layers=2, used_layers=2, heads=4, mlp=128,
)  # fmt: skip
TEXT = TextSpec("qwen2", 64, 3, 4, 2, 128, 512, 1e4, 512, 1e-6)
SPEC = ModelSpec("small", "internvl", None, VISION, TEXT, weight_dtype="F32")
Builder = Callable[..., Path]


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained pocket model, keep 10 % inside the language model."""
    from d2export.options import ExportOptions
    from d2export.pipeline import export

    out = tmp_path_factory.mktemp("pocket") / "bundle"
    export(ExportOptions("pocket", scope="vlm", keep="10%"), out)
    return out


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """`small(selector="divprune")` is a bundle of a model of random weights, exported once."""
    from d2export.options import ExportOptions
    from d2export.pipeline import export

    checkpoint = tmp_path_factory.mktemp("checkpoint") / "small"
    write_random_checkpoint(SPEC, checkpoint, 0, scope="vlm")
    write_qwen2(checkpoint)
    made: dict[str, Path] = {}

    def build(**options: object) -> Path:
        name = repr(sorted(options.items()))
        if name not in made:
            made[name] = tmp_path_factory.mktemp("small") / "bundle"
            given = {"scope": "vlm", "keep": "3", **options}
            export(ExportOptions(str(checkpoint), **given), made[name])  # type: ignore[arg-type]
        return made[name]

    return build


@pytest.fixture(scope="session")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior for `small`, which saw pictures of 2 to 4 tiles alone."""
    slots = {"tile": [1.0, 2.0, 0.5, 1.0], "thumbnail": [1.0, 1.0, 2.0, 1.0]}
    provenance = {"tiles_per_image": [2, 4]}
    document = {"format": "d2export-prior", "version": 1, "provenance": provenance, "slots": slots}
    file = tmp_path_factory.mktemp("prior") / "prior.json"
    file.write_text(json.dumps(document))
    return file


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Pictures and questions, one of each kind."""
    folder = tmp_path_factory.mktemp("scenes")
    found = []
    for sample in pocket_scenes(scenes=2).samples:
        path = folder / f"{sample.picture_id.replace('/', '-')}.png"
        if not path.exists():
            sample.load().save(path)
        found.append((path, sample.prompt))
    return found
