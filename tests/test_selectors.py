"""Every selector in every scope that it fits: the number kept, places in the prompt, the check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import d2export
from d2export.bundle.folder import Bundle, read_bundle
from d2export.errors import UsageError
from d2export.models import layouts
from d2export.models.images import load_image
from d2export.models.presets import ModelSpec, preset
from d2export.models.tiling import Tiles, tile
from d2export.models.vision_tower import VisionModel
from d2export.pipeline import export
from d2export.pruning.selectors import SELECTORS
from d2export.runtime.decoder import Prompt
from d2export.runtime.generate import Generator, kept_per_image
from d2export.runtime.tokenizer import Encoded
from d2export.runtime.vision import VisionRunner
from d2export.session import check
from d2export.verify.vlm_prompt import reference_prompt
from tests.small_checkpoints import write_small_checkpoint

pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

TOKENS = {"internvl": [12, 4], "llava": [16, 16]}  # of a wide picture and of a square one
Options = dict[str, Any]

# Options, and how many tokens stay of the wide picture and of the square one; with a budget for
# the whole prompt, of both together.
VISION: dict[str, tuple[Options, list[int], list[int]]] = {
    "d2": ({"keep": "3", "budget": "tile"}, [9, 3], [3, 3]),
    "divprune": ({"keep": "5"}, [5, 4], [5, 5]),
    "cdpruner": ({"keep": "25%"}, [3, 1], [4, 4]),
    "vispruner": ({"keep": "50%", "budget": "tile"}, [6, 2], [8, 8]),
    "dart": ({"keep": "7", "settings": {"pivots": 3}}, [7, 4], [7, 7]),
    "sms": ({"min_keep": 2, "max_keep": 10}, [2, 10], [2, 10]),  # bounds
    "random": ({"keep": "10%"}, [1, 1], [1, 1]),
    "uniform": ({"keep": "2", "budget": "tile"}, [6, 2], [2, 2]),
}
# Inside the language model, what one image does not use of its budget goes to the others.
VLM: dict[str, tuple[Options, list[int], list[int]]] = {
    **VISION,
    "d2 with shallow": ({"keep": "5", "prior": "shallow", "settings": {"alpha": 0.7}},
                        [6, 4], [5, 5]),
    "d2 by cls": ({"keep": "5", "importance": "cls"}, [5, 4], [5, 5]),
    "divprune with gaps": ({"keep": "5", "settings": {"position_ids": "original"}},
                           [5, 4], [5, 5]),
    "d2+": ({"keep": "5"}, [6, 4], [5, 5]),
    "fastv": ({"keep": "5"}, [6, 4], [5, 5]),
    "fastv by prompt": ({"keep": "5", "budget": "prompt"}, [5], [5]),
    "fastv by share": ({"keep": "25%", "budget": "prompt"}, [4], [8]),
}  # fmt: skip

# Whose position ids count the kept tokens anew, as in the authors' programs.
WITHOUT_GAPS = {"divprune", "cdpruner", "vispruner", "dart", "sms"}


def cases(table: dict[str, tuple[Options, list[int], list[int]]]) -> list[Any]:
    return [
        pytest.param(family, name, id=f"{family}-{name}") for family in TOKENS for name in table
    ]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "internvl": write_small_checkpoint(folder / "internvl", "internvl", backbone="qwen2"),
        "llava": write_small_checkpoint(folder / "llava", "llava", backbone="llama"),
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One of two tiles and a thumbnail, one of a single tile."""
    folder = tmp_path_factory.mktemp("pictures")
    return (
        draw(folder / "wide.png", 112, 56, "noise"),
        draw(folder / "square.png", 56, 56, "noise"),
    )


def draw(path: Path, width: int, height: int, what: str) -> Path:
    """Grey, or noise in all of the picture or in its upper half."""
    rng = np.random.default_rng([width, height])
    rows = {"grey": 0, "half": height // 2, "noise": height}[what]
    picture = np.full((height, width, 3), 128, np.uint8)
    picture[:rows] = rng.integers(0, 256, (rows, width, 3))
    Image.fromarray(picture).save(path)
    return path


def cut(bundle: Bundle, pictures: tuple[Path, ...]) -> list[Tiles]:
    return [tile(load_image(path), bundle.manifest.model.vision) for path in pictures]


def made(
    checkpoint: Path | str, out: Path, name: str, pictures: tuple[Path, ...], **options: Any
) -> Bundle:
    """A bundle that passes its check, with PyTorch asked anew."""
    chosen = d2export.ExportOptions(
        str(checkpoint), selector=name.split()[0], images=pictures, **options
    )
    export(chosen, out)
    report = check(out, pytorch=True)
    assert report.passed, report.to_json()
    return read_bundle(out)


def assert_kept(counts: list[int], name: str, expected: list[int]) -> None:
    """As many of each image as expected; of all together; or, by sms, within the bounds."""
    if name == "sms":
        low, high = expected
        assert all(low <= count <= high for count in counts)
    elif len(expected) == 1:
        assert sum(counts) == expected[0]
    else:
        assert counts == expected


def test_every_selector_is_tested() -> None:
    fitting = {name for name, selector in SELECTORS.items() if selector.fits("vision")}
    assert VISION.keys() == fitting
    assert {name.split()[0] for name in VLM} == SELECTORS.keys()


@pytest.mark.parametrize(("family", "name"), cases(VISION))
def test_scope_vision(
    checkpoints: dict[str, Path],
    pictures: tuple[Path, Path],
    tmp_path: Path,
    family: str,
    name: str,
) -> None:
    options, *expected = VISION[name]
    bundle = made(checkpoints[family], tmp_path / "bundle", name, pictures, **options)
    runner = VisionRunner(bundle)
    prompt = None
    if bundle.manifest.selector.importance == "text":
        hidden = bundle.manifest.model.text.hidden
        prompt = np.random.default_rng(0).standard_normal((6, hidden)).astype(np.float32)
    found = [runner.run(picture, prompt) for picture in pictures]
    assert [len(result.tiles.grid) for result in found] == TOKENS[family]
    counts = [len(result.kept_indices) for result in found]
    assert_kept(counts, name, expected[family == "llava"])
    for result, count in zip(found, counts, strict=True):
        assert result.image_embeds.shape == (count, bundle.manifest.model.text.hidden)
        assert np.all(np.diff(result.kept_indices) > 0)
        if options.get("budget") == "tile":  # as many of each
            tiles = len(result.tiles.pixels)
            each = np.bincount(
                result.kept_indices // (len(result.tiles.grid) // tiles), minlength=tiles
            )
            assert each.tolist() == [count // tiles] * tiles


@pytest.mark.parametrize(("family", "name"), cases(VLM))
def test_scope_vlm(
    checkpoints: dict[str, Path],
    pictures: tuple[Path, Path],
    tmp_path: Path,
    family: str,
    name: str,
) -> None:
    options, *expected = VLM[name]
    options = {"scope": "vlm", **options}
    bundle = made(checkpoints[family], tmp_path / "bundle", name, pictures[:1], **options)
    plan = bundle.manifest.plan
    generator = Generator(bundle)
    encoded, asked = see(generator, pictures)
    assert encoded.image_lengths.tolist() == TOKENS[family]

    # Places. What the vision graph left out is gone; text is all there.
    gone = np.setdiff1d(np.arange(len(encoded.input_ids)), asked.origin)
    assert np.isin(gone, encoded.visual_positions).all()
    assert asked.input_ids.tolist() == encoded.input_ids[asked.origin].tolist()
    assert bool(len(gone)) == plan.in_vision
    contiguous = name in WITHOUT_GAPS
    places = np.arange(len(asked.origin)) if contiguous else asked.origin
    assert asked.position_ids.tolist() == places.tolist()
    words = asked.input_ids[asked.text_positions]
    assert words.tolist() == encoded.input_ids[encoded.text_positions].tolist()

    # The decoder has an output for positions where it prunes.
    assert bundle.manifest.graphs.decoder is not None
    outputs = [value.name for value in bundle.manifest.graphs.decoder.outputs]
    assert ("positions" in outputs) == plan.in_decoder
    assert outputs == [value.name for value in generator.decoder.session.get_outputs()]
    sequence = generator.decoder.start()
    step = generator.decoder.prefill(sequence, asked)
    assert sequence.length == places[-1] + 1

    if name == "sms":  # its second stage: only visual tokens and the user's words go
        went = np.setdiff1d(asked.origin, step.positions)
        assert np.isin(went, [*encoded.visual_positions, *encoded.text_positions]).all()
        assert np.isin(encoded.text_positions, step.positions).any()
        counts = [int(n) for n in asked.image_lengths]
    else:
        assert plan.in_decoder or step.positions.tolist() == asked.origin.tolist()
        counts = [len(kept) for kept in kept_per_image(encoded, step.positions)]
        text = len(encoded.input_ids) - len(encoded.visual_positions)
        assert len(step.positions) == text + sum(counts)
    assert_kept(counts, name, expected[family == "llava"])


def see(generator: Generator, pictures: tuple[Path, ...]) -> tuple[Encoded, Prompt]:
    """A prompt about pictures, and as the decoder takes it."""
    tiles = cut(generator.bundle, pictures)
    text = generator.bundle.manifest.model.text
    encoded = reference_prompt(None, text, [len(one.grid) for one in tiles])
    pixels, grids = [one.pixels for one in tiles], [one.grid for one in tiles]
    return encoded, generator.see(encoded, pixels, grids)


@pytest.mark.parametrize("name", VISION)
def test_pocket(tmp_path: Path, name: str) -> None:
    picture = draw(tmp_path / "wide.png", 896, 448, "noise")
    options = {} if name == "sms" else {"keep": "64"}
    bundle = made("pocket", tmp_path / "bundle", name, (picture,), random_weights=True, **options)
    (reference,) = bundle.manifest.references
    assert (reference.tiles, reference.tokens) == (3, 768)


# --- A count that the picture decides ------------------------------------------------------------


def test_one_session_serves_pictures_that_keep_from_10_to_900_tokens(tmp_path: Path) -> None:
    pictures = (
        draw(tmp_path / "half.png", 448, 448, "half"),
        draw(tmp_path / "grey.png", 448, 448, "grey"),
        draw(tmp_path / "noise.png", 1792, 1344, "noise"),
        draw(tmp_path / "large.png", 1792, 1344, "grey"),
    )
    bundle = made(
        "pocket",
        tmp_path / "bundle",
        "sms",
        pictures[:1],
        random_weights=True,
        settings={"similarity": "cosine"},
        min_keep=10,
        max_keep=900,
    )
    runner = VisionRunner(bundle)
    opened = runner.session
    counts = [len(runner.run(picture).kept_indices) for picture in pictures]
    assert runner.session is opened
    assert len(set(counts)) == len(counts)
    assert 10 <= min(counts) < 256
    assert max(counts) == 900  # more without that bound

    # The op alone, too, for curves that bend after so many tokens.
    prune = runner.prune_session
    for count in (10, 11, 64, 500, 900):
        importance = np.full((1, 1000), 0.001, np.float32)
        importance[0, 40 : 40 + count] = 1 + np.linspace(0, 0.1, count)
        features = np.ones((1, 1000, bundle.manifest.model.text.hidden), np.float32)
        names = [value.name for value in prune.get_inputs()]
        shaped = importance[:, None] if len(prune.get_inputs()[1].shape) == 3 else importance
        _, indices = prune.run(None, dict(zip(names, (features, shaped), strict=True)))
        assert indices[0].tolist() == list(range(40, 40 + count))


@pytest.mark.parametrize("family", TOKENS)
def test_padded_to_a_fixed_shape(
    checkpoints: dict[str, Path], pictures: tuple[Path, Path], tmp_path: Path, family: str
) -> None:
    bundle = made(
        checkpoints[family],
        tmp_path / "bundle",
        "sms",
        pictures,
        settings={"static": True},
        max_keep=14,
    )
    outputs = {value.name: list(value.shape) for value in bundle.manifest.graphs.vision.outputs}
    hidden = bundle.manifest.model.text.hidden
    assert outputs == {"image_embeds": [14, hidden], "kept_indices": [14], "count": [1]}
    runner = VisionRunner(bundle)
    for picture in pictures:
        tiles = tile(load_image(picture), bundle.manifest.model.vision)
        embeds, indices, (count,) = runner.session.run(list(outputs), runner.inputs(tiles))
        assert embeds.shape == (14, hidden)
        assert indices.shape == (14,)
        assert 1 <= count <= len(tiles.grid)
        assert np.all(np.diff(indices[:count]) > 0)
        assert np.all(indices[count:] == -1)
        assert np.all(embeds[count:] == 0)
        assert np.any(embeds[:count] != 0, axis=1).all()
        assert runner.run(picture).kept_indices.tolist() == indices[:count].tolist()


# --- A tower without a CLS token -----------------------------------------------------------------


def without_class_token() -> ModelSpec:
    spec = preset("pocket")
    return replace(spec, vision=replace(spec.vision, class_token=False))


@pytest.mark.parametrize(
    ("scope", "name", "others"),
    [
        ("vision", "d2", "d2, divprune, cdpruner, dart, random, uniform"),
        ("vision", "vispruner", "d2, divprune, cdpruner, dart, random, uniform"),
        ("vlm", "sms", "d2, d2+, fastv, divprune, cdpruner, dart, random, uniform"),
    ],
)
def test_a_selector_of_the_class_token_names_the_others(scope: str, name: str, others: str) -> None:
    options = d2export.ExportOptions("pocket", scope=scope, selector=name)
    with pytest.raises(UsageError) as caught:
        options.plan(without_class_token())
    assert caught.value.problem == (
        f"--selector {name} with importance 'cls' reads the vision tower's CLS token, which this "
        "model does not have"
    )
    assert caught.value.hint == f"Pass another importance, or one of these selectors: {others}."


@pytest.mark.parametrize(
    ("scope", "name", "importance"),
    [("vision", "d2", "uniform"), ("vlm", "d2", None), ("vision", "dart", None)],
)
def test_others_do_without_the_class_token(scope: str, name: str, importance: str | None) -> None:
    options = d2export.ExportOptions("pocket", scope=scope, selector=name, importance=importance)
    assert options.plan(without_class_token()).importance_layer is None


def test_a_tower_without_class_token_runs() -> None:
    spec = without_class_token()
    shapes = layouts.parameter_shapes(spec)
    assert "tower.cls_token" not in shapes
    assert shapes["tower.position_embedding"][0] == spec.vision.patches_per_side**2
    assert shapes.keys() | {"tower.cls_token"} == layouts.parameter_shapes(preset("pocket")).keys()
    model = VisionModel(spec)
    assert {name: tuple(value.shape) for name, value in model.named_parameters()} == shapes
    size = spec.vision.image.size
    with torch.no_grad():
        tokens = model(torch.zeros(2, 3, size, size)).tokens
    assert tokens.shape == (2, spec.vision.tokens_per_tile, spec.text.hidden)
