"""A prior is a JSON file of two grids, and anything else is refused by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2export.errors import UsageError
from d2export.models.presets import preset
from d2export.options import ExportOptions
from d2export.pruning.prior import Prior, check_provenance, outside_seen, read_prior

GOOD = {
    "format": "d2export-prior",
    "version": 1,
    "provenance": {"prompt": "Describe the image.", "images": 1000},
    "slots": {"tile": [1, 2, 3, 0.5], "thumbnail": [4, 0, 6, 7]},
}


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def with_tile(values: Any) -> dict[str, Any]:
    return GOOD | {"slots": {"tile": values, "thumbnail": [1, 1, 1, 1]}}


# --- Layout -------------------------------------------------------------------------------------


def test_the_last_tile_is_the_thumbnail() -> None:
    prior = Prior(np.float32([1, 2]), np.float32([8, 9]))
    assert prior.layout(1).tolist() == [8, 9]
    assert prior.layout(2).tolist() == [1, 2, 8, 9]
    assert prior.layout(3).tolist() == [1, 2, 1, 2, 8, 9]
    assert prior.layout(13).shape == (26,)
    assert prior.layout(3).dtype == np.float32


def test_a_prior_of_ones_changes_nothing() -> None:
    assert Prior.ones(3).layout(2).tolist() == [1, 1, 1, 1, 1, 1]
    assert Prior.ones(3).layout(2).dtype == np.float32


# --- Files --------------------------------------------------------------------------------------


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "prior.json", GOOD)
    prior = read_prior(path, tokens_per_tile=4)
    assert prior.tile.tolist() == [1, 2, 3, 0.5]
    assert prior.thumbnail.tolist() == [4, 0, 6, 7]
    assert prior.tile.dtype == prior.thumbnail.dtype == np.float32
    assert prior.provenance == {"prompt": "Describe the image.", "images": 1000}
    assert prior.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_provenance_may_be_left_out(tmp_path: Path) -> None:
    document = {key: value for key, value in GOOD.items() if key != "provenance"}
    assert read_prior(write(tmp_path / "prior.json", document), 4).provenance == {}


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(UsageError) as caught:
        read_prior(path, 4)
    assert caught.value.problem == f"cannot read prior {path}: No such file or directory"


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read prior .*: Is a directory"):
        read_prior(tmp_path, 4)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000], ids=lambda c: str(c[:6])
)
def test_a_file_that_is_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prior.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_prior(path, 4)
    assert caught.value.problem == f"prior {path} is not JSON"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "{path} is not a prior: 'format' is not 'd2export-prior'"),
        (None, "{path} is not a prior: 'format' is not 'd2export-prior'"),
        ({}, "{path} is not a prior: 'format' is not 'd2export-prior'"),
        (
            GOOD | {"format": "other"},
            "{path} is not a prior: 'format' is not 'd2export-prior'",
        ),
        (GOOD | {"version": 2}, "prior {path} has version 2, this d2export reads 1"),
        (GOOD | {"version": "1"}, "prior {path} has version '1', this d2export reads 1"),
        (GOOD | {"version": None}, "prior {path} has version None, this d2export reads 1"),
        (GOOD | {"slots": None}, "prior {path}: 'slots.tile' is not a list of numbers"),
        (GOOD | {"slots": {}}, "prior {path}: 'slots.tile' is not a list of numbers"),
        (
            GOOD | {"slots": {"tile": [1, 2, 3, 4]}},
            "prior {path}: 'slots.thumbnail' is not a list of numbers",
        ),
        (with_tile("1234"), "prior {path}: 'slots.tile' is not a list of numbers"),
        (with_tile([1, 2, 3, "4"]), "prior {path}: 'slots.tile' is not a list of numbers"),
        (with_tile([1, 2, 3, True]), "prior {path}: 'slots.tile' is not a list of numbers"),
        (with_tile([1, 2, 3, None]), "prior {path}: 'slots.tile' is not a list of numbers"),
        (with_tile([[1, 2], [3, 4]]), "prior {path}: 'slots.tile' is not a list of numbers"),
        (
            with_tile([1, 2, 3]),
            "prior {path}: 'slots.tile' has 3 values, this model has 4 tokens per tile",
        ),
        (
            with_tile([]),
            "prior {path}: 'slots.tile' has 0 values, this model has 4 tokens per tile",
        ),
        (
            with_tile([1, 2, 3, float("nan")]),
            "prior {path}: 'slots.tile' must be finite and not negative",
        ),
        (
            with_tile([1, 2, 3, float("inf")]),
            "prior {path}: 'slots.tile' must be finite and not negative",
        ),
        (
            with_tile([1, 2, 3, 1e39]),  # beyond float32
            "prior {path}: 'slots.tile' must be finite and not negative",
        ),
        (
            with_tile([1, 2, 3, 10**400]),  # beyond float64
            "prior {path}: 'slots.tile' must be finite and not negative",
        ),
        (
            with_tile([1, 2, 3, -0.1]),
            "prior {path}: 'slots.tile' must be finite and not negative",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_file_that_is_no_prior(tmp_path: Path, document: Any, problem: str) -> None:
    path = write(tmp_path / "prior.json", document)
    with pytest.raises(UsageError) as caught:
        read_prior(path, tokens_per_tile=4)
    assert caught.value.problem == problem.format(path=path)


def test_a_prior_of_another_model_says_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "prior.json", GOOD)
    with pytest.raises(UsageError) as caught:
        read_prior(path, tokens_per_tile=256)
    assert caught.value.hint == "Use a prior calibrated for this model."


def test_a_provenance_that_no_manifest_could_hold(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    slots = {"tile": [1.0], "thumbnail": [1.0]}
    document = {"format": "d2export-prior", "version": 1, "slots": slots}
    path.write_text(json.dumps({**document, "provenance": {"loss": float("nan")}}))
    with pytest.raises(UsageError, match="'provenance' holds NaN"):
        read_prior(path, 1)


# --- Where it comes from ------------------------------------------------------------------------

PATH, POCKET = Path("prior.json"), preset("pocket")
SAME = {
    "model": "pocket",
    "family": "internvl",
    "tokens_per_tile": 256,
    "importance": "llm",
    "prune_layer": 2,
}


D2 = {"importance": "llm", "prune_layer": 2}
D2_PLUS = {**D2, "rows": "two", "smoothing": 0.6}


def measured(**provenance: Any) -> Prior:
    return replace(Prior.ones(256), provenance=provenance)


def test_a_prior_of_the_same_model_or_of_unknown_origin() -> None:
    check_provenance(measured(**SAME), PATH, POCKET, D2)
    check_provenance(measured(), PATH, POCKET, D2)
    check_provenance(
        measured(prompt="Describe.", images=7),
        PATH,
        POCKET,
        {"importance": "cls", "prune_layer": None},
    )


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("model", "internvl2.5-1b", "another model: 'internvl2.5-1b', this build has 'pocket'"),
        ("family", "llava", "another family: 'llava', this build has 'internvl'"),
        ("tokens_per_tile", 576, "another tokens per tile: 576, this build has 256"),
        ("importance", "cls", "another importance: 'cls', this build has 'llm'"),
        ("prune_layer", 3, "another prune layer: 3, this build has 2"),
    ],
)
def test_a_prior_of_another_origin(key: str, value: Any, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_provenance(measured(**SAME | {key: value}), PATH, POCKET, D2)
    assert caught.value.problem == f"prior prior.json was calibrated for {problem}"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("found", "wanted", "problem"),
    [
        (D2, D2_PLUS, "rows: None, this build has 'two'"),
        (D2_PLUS, D2, "rows: 'two', this build has None"),
        (D2_PLUS, {**D2_PLUS, "rows": "ahead"}, "rows: 'two', this build has 'ahead'"),
        (D2_PLUS, {**D2_PLUS, "smoothing": 0.3}, "smoothing: 0.6, this build has 0.3"),
    ],
)
def test_a_prior_of_importance_that_is_read_otherwise(
    found: dict[str, Any], wanted: dict[str, Any], problem: str
) -> None:
    check_provenance(measured(**found), PATH, POCKET, found)
    with pytest.raises(UsageError) as caught:
        check_provenance(measured(**found), PATH, POCKET, wanted)
    assert caught.value.problem == f"prior prior.json was calibrated for another {problem}"
    assert caught.value.hint


CALIB = Path(__file__).parents[2] / "calib"


@pytest.mark.parametrize("path", sorted(CALIB.glob("*.json")), ids=lambda path: path.name)
def test_priors_of_this_repository_fit_what_their_name_says(path: Path) -> None:
    _, layer, selector = (*path.stem.split("-"), "d2")[:3]
    options = ExportOptions("pocket", scope="vlm", selector=selector, prune_layer=int(layer))
    prior = read_prior(path, POCKET.vision.tokens_per_tile)
    assert {"model", "importance", "prune_layer", "images"} <= prior.provenance.keys()
    check_provenance(prior, path, POCKET, options.plan(POCKET).measured())


def test_pictures_like_those_a_prior_saw() -> None:
    assert outside_seen(measured(tiles_per_image=[1, 7]), [1, 3, 7]) is None


def test_pictures_unlike_those_a_prior_saw() -> None:
    assert outside_seen(measured(tiles_per_image=[3, 7]), [13, 5, 1, 13]) == (
        "the prior was calibrated on pictures of 3 to 7 tiles; here is one of 1 and one of 13"
    )


@pytest.mark.parametrize("seen", [None, [], [1], ["1", "7"], 7, {"min": 1}])
def test_a_prior_that_does_not_say_what_it_saw(seen: Any) -> None:
    assert outside_seen(measured(tiles_per_image=seen), [13]) is None
    assert outside_seen(measured(), [13]) is None
