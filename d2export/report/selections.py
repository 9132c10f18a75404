"""What PyTorch decided on for one picture, and what it keeps at several budgets.

A build stores it in `selections/NAME.npz`, so that a report can be made again without PyTorch.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.errors import BundleError
from d2export.models.tiling import Tiles

FOLDER = "selections"
BUILT = "built"  # the label of what the bundle itself keeps

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Selections:
    """One picture.

    Attributes:
        columns: tiles side by side, the thumbnail not counted; `rows` above each other.
        tokens_per_side: visual tokens along one side of a tile.
        image_size: (width, height) of the picture in pixels.
        extent: x0, y0, x1, y1 of the canvas in pixels of the picture, see `Tiles`.
        kept: by label, `[M]` int32 ascending: `built`, and shares in permille such as `100`.
        importance: `[N]` float32, the mean over heads; None where the selector looks at nothing.
        prior: `[N]` float32, what it is divided by; None if nothing.
        eps: added to the prior before dividing.
    """

    columns: int
    rows: int
    tokens_per_side: int
    image_size: tuple[int, int]
    extent: tuple[int, int, int, int]
    kept: dict[str, Indices]
    importance: Floats | None = None
    prior: Floats | None = None
    eps: float = 0.0

    @property
    def tiles(self) -> int:
        """With the thumbnail, which several tiles have."""
        count = self.columns * self.rows
        return count + (count > 1)

    @property
    def tokens(self) -> int:
        """Visual tokens of the picture."""
        return self.tiles * self.tokens_per_side**2

    @property
    def debiased(self) -> Floats | None:
        """`[N]`: importance over prior; None where there are not both."""
        if self.importance is None or self.prior is None:
            return None
        with np.errstate(all="ignore"):
            ratio: Floats = self.importance / (self.prior + np.float32(self.eps))
        return ratio

    def save(self, path: Path) -> None:
        """Write a compressed .npz."""
        arrays: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "kept" and getattr(self, field.name) is not None
        }
        arrays |= {f"kept.{label}": indices for label, indices in self.kept.items()}
        np.savez_compressed(path, **arrays)


def selections_of(
    tiles: Tiles,
    kept: dict[str, Indices],
    importance: Floats | None = None,
    prior: Floats | None = None,
    eps: float = 0.0,
) -> Selections:
    """What was kept of a picture that was cut into `tiles`."""
    return Selections(
        tiles.columns,
        tiles.rows,
        tiles.tokens_per_side,
        tiles.image_size,
        tiles.extent,
        kept,
        importance,
        prior,
        eps,
    )


def read_selections(path: Path) -> Selections:
    """From its file; pickled arrays are refused.

    Raises:
        BundleError: the file is damaged, lacks an array, or has one that does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = _decoded({name: file[name] for name in file.files})
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"selections {path} cannot be read: {error}", "Build the bundle again."
        ) from None
    return found


def _decoded(arrays: dict[str, npt.NDArray[Any]]) -> Selections:
    kept = {
        name.removeprefix("kept."): indices
        for name, indices in arrays.items()
        if name.startswith("kept.")
    }
    width, height = arrays["image_size"].tolist()
    x0, y0, x1, y1 = arrays["extent"].tolist()
    return Selections(
        int(arrays["columns"]),
        int(arrays["rows"]),
        int(arrays["tokens_per_side"]),
        (width, height),
        (x0, y0, x1, y1),
        kept,
        arrays.get("importance"),
        arrays.get("prior"),
        float(arrays["eps"]),
    )


def _check(found: Selections) -> None:
    """Raise a ValueError unless all numbers fit together."""
    sizes = (found.columns, found.rows, found.tokens_per_side, *found.image_size)
    x0, y0, x1, y1 = found.extent
    if min(sizes) < 1 or max(sizes) > 2**20 or x1 <= x0 or y1 <= y0:
        raise ValueError("a size is not what a picture can have")
    if BUILT not in found.kept:
        raise ValueError(f"'kept.{BUILT}' is missing")
    for label, indices in found.kept.items():
        fits = indices.ndim == 1 and np.issubdtype(indices.dtype, np.integer)
        if not fits or (len(indices) and not 0 <= indices.min() <= indices.max() < found.tokens):
            raise ValueError(f"'kept.{label}' has no indices of {found.tokens} tokens")
        if label != BUILT and not (label.isdecimal() and 1 <= int(label) <= 1000):
            raise ValueError(f"'kept.{label}' is no share in permille")
    for name in ("importance", "prior"):
        values = getattr(found, name)
        if values is not None and (values.shape != (found.tokens,) or values.dtype.kind != "f"):
            raise ValueError(f"'{name}' has no number for each of {found.tokens} tokens")
