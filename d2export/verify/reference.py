"""Stored inputs and PyTorch's answers: `reference/*.npz` in a bundle."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.errors import BundleError
from d2export.models.tiling import normalize
from d2export.runtime.vision import Inputs


@dataclass(frozen=True, eq=False)
class Reference:
    """One input and what PyTorch answered in float32.

    Attributes:
        pixels: `[T, 3, S, S]` uint8 tiles, before normalisation.
        token_grid: `[N, 2]` float32.
        image_embeds: `[M, hidden]` float32.
        kept_indices: `[M]` int32.
        prompt_embeds: `[P, hidden]` float32, or None.
    """

    pixels: npt.NDArray[np.uint8]
    token_grid: npt.NDArray[np.float32]
    image_embeds: npt.NDArray[np.float32]
    kept_indices: npt.NDArray[np.int32]
    prompt_embeds: npt.NDArray[np.float32] | None = None

    def inputs(self, bundle: Bundle) -> Inputs:
        """The graph's inputs by name."""
        found = {
            "pixel_values": normalize(self.pixels, bundle.manifest.model.vision.image),
            "token_grid": self.token_grid,
        }
        if self.prompt_embeds is not None:
            found["prompt_embeds"] = self.prompt_embeds
        return found

    def save(self, path: Path) -> None:
        """Write a compressed .npz."""
        arrays: dict[str, Any] = {k: v for k, v in vars(self).items() if v is not None}
        np.savez_compressed(path, **arrays)


def read_reference(path: Path) -> Reference:
    """A reference from its file; pickled arrays are refused.

    Raises:
        BundleError: the file is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Reference(**{name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"reference {path} cannot be read: {error}", "Build the bundle again."
        ) from None
