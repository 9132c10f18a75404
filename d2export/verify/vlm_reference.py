"""Stored prompts with images and PyTorch's answers to them, in a bundle of scope `vlm`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2export.errors import BundleError
from d2export.runtime.tokenizer import Encoded


@dataclass(frozen=True, eq=False)
class VlmReference:
    """One prompt and what PyTorch answered in float32.

    Attributes:
        pixels: `[T, 3, S, S]` uint8, the tiles of all images.
        tiles: `[I]` int64, how many of them each image has.
        input_ids: `[L]` int64.
        visual_positions: `[V]` int64.
        image_lengths: `[I]` int64.
        text_positions: `[D]` int64, the user's own words.
        token_grid: `[V, 2]` float32.
        rows: `[E]` int64, the visual tokens whose embeddings are stored, counted over all images.
        image_embeds: `[E, hidden]` float32.
        positions: `[S]` int32, what survived of the prompt.
        logits: `[vocab]` float32, of the first token of the answer.
        tokens: `[G]` int64, the answer's first tokens, most likely ones.
    """

    pixels: npt.NDArray[np.uint8]
    tiles: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int64]
    visual_positions: npt.NDArray[np.int64]
    image_lengths: npt.NDArray[np.int64]
    text_positions: npt.NDArray[np.int64]
    token_grid: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    image_embeds: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int64]

    def images(self) -> list[npt.NDArray[np.uint8]]:
        """The tiles of each image."""
        return np.split(self.pixels, np.cumsum(self.tiles)[:-1])

    def grids(self) -> list[npt.NDArray[np.float32]]:
        """The token centres of each image."""
        return np.split(self.token_grid, np.cumsum(self.image_lengths)[:-1])

    def encoded(self) -> Encoded:
        """The prompt."""
        return Encoded(
            self.input_ids, self.visual_positions, self.image_lengths, self.text_positions
        )

    def save(self, path: Path) -> None:
        """Write a compressed .npz."""
        np.savez_compressed(path, **vars(self))


def read_vlm_reference(path: Path) -> VlmReference:
    """A reference from its file; pickled arrays are refused.

    Raises:
        BundleError: the file is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return VlmReference(**{name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"reference {path} cannot be read: {error}", "Build the bundle again."
        ) from None
