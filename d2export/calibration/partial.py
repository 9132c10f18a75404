"""A calibration that is not finished: what it has seen so far, in a file that a next run reads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from d2export.bundle.disk import replace_file
from d2export.bundle.folder import Bundle
from d2export.bundle.strict_json import JsonError, decode, encode, parse
from d2export.calibration.pictures import text_name
from d2export.errors import UsageError
from d2export.progress import Progress

START_OVER = "Finish that one with its own options, or pass --force to start over."


@dataclass(frozen=True)
class Picture:
    """A file that was looked at; `tiles` is 0 if it could not be read."""

    name: str
    bytes: int
    tiles: int


@dataclass(frozen=True)
class Partial:
    """Sums of importance over the pictures so far.

    Attributes:
        key: what the sums depend on besides the pictures; only an equal one may continue.
        pictures: in the order of their names.
        tile: float64 sum over the tiles but the last of each picture, `[tokens_per_tile]`.
        thumbnail: float64 sum over the last tile of each picture.
    """

    key: dict[str, object]
    pictures: tuple[Picture, ...]
    tile: tuple[float, ...]
    thumbnail: tuple[float, ...]
    format: Literal["d2export-prior-partial"] = "d2export-prior-partial"
    version: Literal[1] = 1

    @classmethod
    def empty(cls, key: dict[str, object], tokens_per_tile: int) -> Partial:
        """Before the first picture."""
        return cls(key, (), (0.0,) * tokens_per_tile, (0.0,) * tokens_per_tile)

    @property
    def tiles(self) -> list[int]:
        """The number of tiles of each picture that could be read."""
        return [picture.tiles for picture in self.pictures if picture.tiles]

    @property
    def unreadable(self) -> list[str]:
        """The names of the others."""
        return [picture.name for picture in self.pictures if not picture.tiles]

    def with_picture(self, picture: Picture, importance: npt.NDArray[np.float64]) -> Partial:
        """With one more; `importance` is `[tiles, tokens_per_tile]`."""
        tile = np.array(self.tile) + importance[:-1].sum(axis=0)
        thumbnail = np.array(self.thumbnail) + importance[-1:].sum(axis=0)
        return replace(
            self,
            pictures=(*self.pictures, picture),
            tile=tuple(tile.tolist()),
            thumbnail=tuple(thumbnail.tolist()),
        )

    def write(self, path: Path) -> None:
        """Write it to `path`, which holds the old or the new state whatever happens.

        Raises:
            OutputError: the file cannot be written.
        """
        replace_file(path, json.dumps(encode(self)) + "\n")

    def check_continues(
        self, path: Path, key: dict[str, object], pictures: list[tuple[str, int]]
    ) -> None:
        """Refuse to continue the calibration in `path` with another key, or on other pictures.

        Args:
            pictures: names and sizes of all that are to be seen.

        Raises:
            UsageError: the first difference.
        """
        for name in sorted(key.keys() | self.key.keys()):
            if self.key.get(name) != key.get(name):
                raise UsageError(
                    f"{path} is an unfinished calibration with another {name.replace('_', ' ')}: "
                    f"{self.key.get(name)!r}, not {key.get(name)!r}",
                    START_OVER,
                )
        seen = [(picture.name, picture.bytes) for picture in self.pictures]
        if seen != pictures[: len(seen)]:
            there = [*pictures, *[("", 0)] * len(seen)]
            name = next(one[0] for one, other in zip(seen, there, strict=False) if one != other)
            raise UsageError(
                f"{path} is an unfinished calibration on other pictures: '{name}' is missing, "
                "has changed, or others now come before it",
                START_OVER,
            )


def read_partial(path: Path, tokens_per_tile: int) -> Partial | None:
    """The unfinished calibration in `path`; None if there is none.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        found = decode(Partial, parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "Remove it.") from None
    except (JsonError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged: {error}", "Remove it to start over.") from None
    for slot in (found.tile, found.thumbnail):
        if len(slot) != tokens_per_tile:
            raise UsageError(
                f"{path} has {len(slot)} values per tile, this model has {tokens_per_tile}",
                "Remove it to start over.",
            )
    return found


def key_of(bundle: Bundle, prompt: str) -> dict[str, object]:
    """What importance depends on besides the picture."""
    manifest = bundle.manifest
    weights = [
        [entry.sha256, *map(list, entry.ranges or ())]
        for path, entry in sorted(manifest.files.items())
        if path.endswith(".safetensors")
    ]
    return {
        "model": manifest.model.name,
        "model_id": manifest.model.id,
        "weights": hashlib.sha256(json.dumps(weights).encode()).hexdigest(),
        "precision": manifest.precision,
        **manifest.plan.measured(),
        "prompt": prompt,
    }


def continued(
    path: Path,
    key: dict[str, object],
    files: list[Path],
    tokens_per_tile: int,
    force: bool,
    progress: Progress,
) -> Partial:
    """The unfinished calibration in `path`, or one that starts.

    Args:
        key: see `key_of`.
        files: all pictures that are to be seen.
        force: start over where the one in `path` cannot go on.

    Raises:
        UsageError: it cannot go on.
    """
    try:
        found = read_partial(path, tokens_per_tile)
        if found is not None:
            found.check_continues(
                path, key, [(text_name(file), file.stat().st_size) for file in files]
            )
            progress.note(f"going on after {len(found.pictures)} of {len(files)} pictures: {path}")
    except UsageError as error:
        if not force:
            raise
        progress.note(f"starting over: {error.problem}")
        found = None
    return found or Partial.empty(key, tokens_per_tile)
