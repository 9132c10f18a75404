"""The positional prior: how much attention a place gets whatever the picture shows.

A prior is stored per slot class, because the number of tiles differs from image to image: one grid
for a `tile` of the cut-up picture and one for the `thumbnail`, the view of the whole picture that
every request ends with (a request of one tile is a thumbnail).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.errors import UsageError
from d2export.models.presets import ModelSpec

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


def prior_document(prior: Prior) -> dict[str, Any]:
    """What `read_prior` reads, as plain values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "provenance": prior.provenance,
        "slots": {"tile": prior.tile.tolist(), "thumbnail": prior.thumbnail.tolist()},
    }


def check_provenance(
    prior: Prior, path: Path, spec: ModelSpec, measured: Mapping[str, Any]
) -> None:
    """Refuse a prior that says it was measured on another model, or on other importance.

    Args:
        path: its file, for messages.
        spec: the model that is to be built.
        measured: what the prior is for, as `Plan.measured` says.

    Raises:
        UsageError: the first fact in which the two differ.
    """
    wanted = {
        "model": spec.name,
        "family": spec.family,
        "tokens_per_tile": spec.vision.tokens_per_tile,
        "rows": None,
        "smoothing": None,
        **measured,
    }
    known = "importance" in prior.provenance  # who says that says all of it
    for key, value in wanted.items():
        found = prior.provenance.get(key, None if known and key in _AHEAD else value)
        if found != value:
            raise UsageError(
                f"prior {path} was calibrated for another {key.replace('_', ' ')}: "
                f"{found!r}, this build has {value!r}",
                _OTHER.get(key, "Use a prior calibrated for this model."),
            )


def outside_seen(prior: Prior, tiles: Iterable[int]) -> str | None:
    """What is unusual about pictures of so many tiles each: the prior saw none such; else None."""
    seen = prior.provenance.get("tiles_per_image")
    if not (isinstance(seen, list) and len(seen) == 2 and all(type(n) is int for n in seen)):
        return None  # written by somebody else
    fewest, most = seen
    others = sorted({count for count in tiles if not fewest <= count <= most})
    if not others:
        return None
    return (
        f"the prior was calibrated on pictures of {tile_span(fewest, most)}; here is one of "
        f"{' and one of '.join(map(str, others))}"
    )


def tile_span(fewest: int, most: int) -> str:
    """`1 tile`, `4 tiles`, `1 to 13 tiles`."""
    number = f"{fewest} to {most}" if fewest < most else f"{most}"
    return f"{number} tile{'s' if most > 1 else ''}"


_AHEAD = ("rows", "smoothing")  # of importance that is read ahead; a prior of another has neither
_OTHER = {
    "model": "Use a prior calibrated for this model. If it is the same one under another name, "
    "change 'model' in the file's provenance.",
    "importance": "Use a prior of the same importance, or leave --prior out.",
    "prune_layer": "Use a prior of the same --prune-layer, or pass that of the prior.",
    "rows": "Calibrate one on a bundle of this selector and --set rows: that of d2 is not of d2+.",
    "smoothing": "Calibrate one with this --set smoothing, or pass that of the prior.",
}


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
