"""What a build stores about a picture comes back, and nothing that does not fit together does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2export.errors import BundleError
from d2export.report.selections import Selections, read_selections

KEPT = np.array([1, 5, 9], np.int32)


def stored(**changes: Any) -> Selections:
    values: dict[str, Any] = {
        "columns": 2, "rows": 1, "tokens_per_side": 2, "image_size": (80, 40),
        "extent": (0, 0, 80, 40), "kept": {"built": KEPT, "250": KEPT},
        "importance": np.arange(12, dtype=np.float32), "prior": np.full(12, 2, np.float32),
        "eps": 0.5,
    }  # fmt: skip
    return Selections(**{**values, **changes})


def test_a_round_trip(tmp_path: Path) -> None:
    stored().save(tmp_path / "photo.npz")
    found = read_selections(tmp_path / "photo.npz")
    assert (found.tiles, found.tokens) == (3, 12)
    assert (found.image_size, found.extent, found.eps) == ((80, 40), (0, 0, 80, 40), 0.5)
    assert {label: kept.tolist() for label, kept in found.kept.items()} == {
        "built": [1, 5, 9],
        "250": [1, 5, 9],
    }
    assert found.debiased is not None
    np.testing.assert_allclose(found.debiased, np.arange(12) / 2.5)


def test_without_importance(tmp_path: Path) -> None:
    stored(importance=None, prior=None).save(tmp_path / "photo.npz")
    found = read_selections(tmp_path / "photo.npz")
    assert (found.importance, found.prior, found.debiased) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kept": {"250": KEPT}}, "'kept.built' is missing"),
        ({"kept": {"built": np.array([12])}}, "'kept.built' has no indices of 12 tokens"),
        ({"kept": {"built": np.array([-1])}}, "'kept.built' has no indices"),
        ({"kept": {"built": np.array([[1]])}}, "'kept.built' has no indices"),
        ({"kept": {"built": np.array([1.0])}}, "'kept.built' has no indices"),
        ({"kept": {"built": KEPT, "1001": KEPT}}, "'kept.1001' is no share in permille"),
        ({"kept": {"built": KEPT, "<b>": KEPT}}, "'kept.<b>' is no share in permille"),
        ({"importance": np.ones(11, np.float32)}, "'importance' has no number for each"),
        ({"prior": np.array(["1"] * 12)}, "'prior' has no number for each"),
        ({"columns": 0}, "a size is not what a picture can have"),
        ({"extent": (0, 0, 0, 40)}, "a size is not what a picture can have"),
        ({"image_size": (80, 2**30)}, "a size is not what a picture can have"),
        ({"image_size": (80, 40, 3)}, "too many values"),
        ({"kept": {"built": np.array([KEPT, None], object)}}, "allow_pickle=False"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    stored(**changes).save(tmp_path / "photo.npz")
    with pytest.raises(BundleError) as caught:
        read_selections(tmp_path / "photo.npz")
    assert said in caught.value.problem
    assert caught.value.hint == "Build the bundle again."


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "photo.npz").write_bytes(b"PK\x03\x04 but no archive")
    with pytest.raises(BundleError, match=r"photo\.npz cannot be read"):
        read_selections(tmp_path / "photo.npz")
