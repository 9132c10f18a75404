"""The positional prior: how much attention a place gets whatever the picture shows.

A prior is stored per slot class, because the number of tiles differs from image to image: one grid
for a `tile` of the cut-up picture and one for the `thumbnail`, the view of the whole picture that
every request ends with (a request of one tile is a thumbnail).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.errors import UsageError

FORMAT, VERSION = "d2export-prior", 1
LAYOUT = (
    f'Write {{"format": "{FORMAT}", "version": {VERSION}, '
    '"slots": {"tile": [...], "thumbnail": [...]}}.'
)

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Prior:
    """Mean importance per place of a tile, `[tokens_per_tile]` float32 each."""

    tile: npt.NDArray[np.float32]
    thumbnail: npt.NDArray[np.float32]
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    @classmethod
    def ones(cls, tokens_per_tile: int) -> Prior:
        """The prior that changes nothing."""
        flat = np.ones(tokens_per_tile, np.float32)
        return cls(flat, flat)

    def layout(self, tiles: int) -> npt.NDArray[np.float32]:
        """`[tiles * tokens_per_tile]`: `tile` for every tile but the last, which is a thumbnail."""
        return np.concatenate([*[self.tile] * (tiles - 1), self.thumbnail])


def read_prior(path: Path, tokens_per_tile: int) -> Prior:
    """A prior from a JSON file: `format`, `version`, `provenance`, `slots.tile`, `slots.thumbnail`.

    Raises:
        UsageError: the file is missing or no prior, or has another number of tokens per tile.
    """
    try:
        raw = path.read_bytes()
        document = json.loads(raw)
    except OSError as error:
        raise UsageError(
            f"cannot read prior {path}: {error.strerror}", "Check the path, or leave --prior out."
        ) from None
    except (ValueError, RecursionError):
        raise UsageError(f"prior {path} is not JSON", LAYOUT) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{path} is not a prior: 'format' is not '{FORMAT}'", LAYOUT)
    if document.get("version") != VERSION:
        raise UsageError(
            f"prior {path} has version {document.get('version')!r}, this d2export reads {VERSION}",
            f"Use a prior of version {VERSION}, or upgrade d2export.",
        )
    slots = document.get("slots")
    tile, thumbnail = (_slot(path, slots, name, tokens_per_tile) for name in ("tile", "thumbnail"))
    provenance = document.get("provenance")
    try:
        json.dumps(provenance, allow_nan=False)  # it goes into the manifest
    except ValueError:
        raise UsageError(
            f"prior {path}: 'provenance' holds NaN or infinity, which is not JSON",
            "Remove these values.",
        ) from None
    return Prior(
        tile,
        thumbnail,
        provenance=provenance if isinstance(provenance, dict) else {},
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def _slot(path: Path, slots: Any, name: str, tokens_per_tile: int) -> npt.NDArray[np.float32]:
    numbers = slots.get(name) if isinstance(slots, dict) else None
    if not isinstance(numbers, list) or not all(
        isinstance(x, int | float) and not isinstance(x, bool) for x in numbers
    ):
        raise UsageError(f"prior {path}: 'slots.{name}' is not a list of numbers", LAYOUT)
    if len(numbers) != tokens_per_tile:
        raise UsageError(
            f"prior {path}: 'slots.{name}' has {len(numbers)} values, this model has "
            f"{tokens_per_tile} tokens per tile",
            "Use a prior calibrated for this model.",
        )
    if not all(0 <= x <= _LARGEST for x in numbers):
        raise UsageError(
            f"prior {path}: 'slots.{name}' must be finite and not negative",
            "Correct the file: every value is a mean importance.",
        )
    return np.array(numbers, np.float32)
