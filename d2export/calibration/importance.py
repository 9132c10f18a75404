"""What the last token of a prompt attends to, in the layer whose attention decides what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.runtime.decoder import DecoderRunner, whole_prompt
from d2export.runtime.decoder_part import DecoderPart
from d2export.runtime.tokenizer import Encoded

IMPORTANCE = "importance"  # of `export.decoder.trace_decoder`


class ImportanceRunner:
    """The layers of a decoder graph below the one that prunes; the others are not loaded.

    Args:
        bundle: an opened bundle of scope `vlm`.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.

    Raises:
        UsageError: the bundle has no decoder.
    """

    def __init__(
        self, bundle: Bundle, *, provider: str = "cpu", threads: int | None = None
    ) -> None:
        decoder = DecoderRunner(bundle, provider=provider, threads=threads)
        self.part = DecoderPart(decoder, (IMPORTANCE,))

    def __call__(self, encoded: Encoded, embeds: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Importance of the visual tokens of a prompt, mean over heads if it is per head: `[V]`.

        Args:
            encoded: a prompt with images.
            embeds: `[V, hidden]`, the visual tokens of all images.

        Raises:
            UsageError: the prompt is longer than the model's context.
            BundleError: ONNX Runtime cannot run the graph on it.
        """
        visual = encoded.visual_positions
        # What selection needs besides importance: nothing is selected here.
        grid, prior = np.zeros((len(visual), 2), np.float32), np.ones(len(visual), np.float32)
        prompt = whole_prompt(encoded.input_ids, embeds, visual, encoded.image_lengths, grid, prior)
        (row,) = self.part(prompt)
        importance: npt.NDArray[np.float64] = row[0].astype(np.float64)[..., visual]
        return importance if importance.ndim == 1 else importance.mean(axis=0)
