"""Answer a question about pictures: preprocess, see, read, write, one token after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.errors import UsageError
from d2export.models.images import load_image
from d2export.models.tiling import Tiles, normalize, tile
from d2export.pruning.prior import Prior, outside_seen, read_prior
from d2export.runtime.decoder import DecoderRunner, Prompt
from d2export.runtime.prompt import embed_ids
from d2export.runtime.request import prompt_of
from d2export.runtime.runners import open_model
from d2export.runtime.sampling import Sampling, pick
from d2export.runtime.tokenizer import BundleTokenizer, Encoded
from d2export.runtime.vision import Inputs, VisionRunner, vision_inputs

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Timings:
    """Seconds per stage; `decode` is that of each further token."""

    preprocessing: float
    vision: float
    prefill: float
    decode: tuple[float, ...]

    @property
    def tokens_per_second(self) -> float | None:
        """Of decoding, without the first token; None if there is only one."""
        return len(self.decode) / sum(self.decode) if self.decode else None


@dataclass(frozen=True, eq=False)
class Generation:
    """An answer.

    Attributes:
        text: without the tokens that end it.
        tokens: ids, with the one that ended it.
        finish: `stop`, or `length` when `max_new_tokens` was reached.
        images: how each picture was cut.
        kept: for each picture, which of its visual tokens stayed, `[M]` int32 ascending.
        prompt_tokens: length of the prompt, visual tokens included.
        timings: per stage.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    images: tuple[Tiles, ...]
    kept: tuple[npt.NDArray[np.int32], ...]
    prompt_tokens: int
    timings: Timings


@dataclass
class Generator:
    """The whole model of a bundle of scope `vlm`, opened once, for any number of questions.

    Args:
        bundle: an opened bundle.
        provider: `cpu` or `cuda` of ONNX Runtime, or `tensorrt`: the bundle's engines.
        threads: of one operator; all cores if None.
        attributes: of the pruning ops, instead of those in the bundle. Needs the onnx package.
        plugin: library of TensorRT's plugin; None: that of this installation.
    """

    bundle: Bundle
    provider: str = "cpu"
    threads: int | None = None
    attributes: Mapping[str, int] | None = None
    plugin: Path | None = None
    vision: VisionRunner = field(init=False, repr=False)
    decoder: DecoderRunner = field(init=False, repr=False)
    prior: Prior = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.vision, self.decoder = open_model(
            self.bundle, self.provider, self.threads, self.attributes, self.plugin
        )
        self.prior = stored_prior(self.bundle)

    @cached_property
    def tokenizer(self) -> BundleTokenizer:
        """The bundle's tokenizer, checked against its model."""
        vocab = self.bundle.manifest.model.text.vocab
        return BundleTokenizer(self.bundle.root / "processor", vocab)

    def answer(
        self,
        images: Sequence[Path | str],
        prompt: str,
        *,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
        system: str | None = None,
        on_text: Callable[[str], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> Generation:
        """Answer `prompt` about `images`.

        Args:
            images: picture files, in the order of their `<image>` placeholders.
            prompt: see `BundleTokenizer.encode`.
            max_new_tokens: longest answer.
            sampling: how tokens are drawn; None takes the most likely one.
            system: instead of the model's own system message.
            on_text: called with each piece of text as it comes.
            on_warning: called before, if the prior saw no pictures such as these.

        Raises:
            UsageError: the prompt or the number of images does not fit, or all of it together is
                longer than the model's context.
            ImageError: a picture cannot be used.
            BundleError: the bundle is damaged.
            EnvironmentMismatch: a package is missing.
        """
        if not images:
            raise UsageError(
                "there is no image", "Pass --image FILE; this is a model for pictures."
            )
        if max_new_tokens < 1:
            raise UsageError(
                f"--max-new-tokens is {max_new_tokens}, expected at least 1", "Leave it out."
            )
        tokenizer = self.tokenizer
        start = time.perf_counter()
        model = self.bundle.manifest.model
        cut = tuple(tile(load_image(path), model.vision) for path in images)
        encoded = tokenizer.encode(prompt, [len(tiles.grid) for tiles in cut], system)
        preprocessing = time.perf_counter() - start
        self._check_length(len(encoded.input_ids), max_new_tokens)
        outside = outside_seen(self.prior, [len(tiles.pixels) for tiles in cut])
        if outside is not None and on_warning is not None:
            on_warning(outside)

        start = time.perf_counter()
        asked = self.see(encoded, [tiles.pixels for tiles in cut], [tiles.grid for tiles in cut])
        vision = time.perf_counter() - start
        sequence = self.decoder.start()
        step = self.decoder.prefill(sequence, asked)
        kept = kept_per_image(encoded, step.positions)

        generator = np.random.default_rng(sampling.seed if sampling else 0)
        stream, seconds = tokenizer.stream(), [step.seconds]
        tokens: list[int] = []
        pieces: list[str] = []
        finish: Finish = "length"

        def say(piece: str) -> None:
            pieces.append(piece)
            if piece and on_text is not None:
                on_text(piece)

        while True:
            tokens.append(pick(step.logits, sampling, generator))
            if tokens[-1] in tokenizer.stop_ids:
                finish = "stop"
                break
            say(stream.put(tokens[-1]))
            if len(tokens) == max_new_tokens:
                break
            step = self.decoder.step(sequence, tokens[-1])
            seconds.append(step.seconds)
        say(stream.end())
        return Generation(
            "".join(pieces),
            tuple(tokens),
            finish,
            cut,
            kept,
            len(encoded.input_ids),
            Timings(preprocessing, vision, seconds[0], tuple(seconds[1:])),
        )

    def see(
        self,
        encoded: Encoded,
        pixels: Sequence[npt.NDArray[np.uint8]],
        grids: Sequence[npt.NDArray[np.float32]],
    ) -> Prompt:
        """A prompt for the decoder: each image through the vision graph.

        Args:
            pixels: of each image, `[T, 3, S, S]` tiles.
            grids: of each image, `[N, 2]` token centres on its canvas.
        """
        manifest = self.bundle.manifest
        plan, image = manifest.plan, manifest.model.vision.image
        if not plan.in_vision:
            embeds = [self.vision.embed(normalize(tiles, image)) for tiles in pixels]
            return prompt_of(encoded, grids, embeds, None, self.prior, plan)
        seen = [
            self.vision.infer(self.vision_inputs(encoded, tiles, grid))
            for tiles, grid in zip(pixels, grids, strict=True)
        ]
        kept = [indices for _, indices in seen]
        return prompt_of(encoded, grids, [e for e, _ in seen], kept, self.prior, plan)

    def vision_inputs(
        self,
        encoded: Encoded,
        pixels: npt.NDArray[np.uint8],
        grid: npt.NDArray[np.float32],
    ) -> Inputs:
        """What the vision graph takes for one image of a prompt, where it prunes."""
        manifest = self.bundle.manifest
        words = None
        if manifest.plan.importance == "text":
            words = embed_ids(self.bundle, encoded.input_ids[encoded.text_positions])
        return vision_inputs(pixels, grid, manifest.model.vision, words)

    def _check_length(self, prompt: int, new: int) -> None:
        limit = self.bundle.manifest.model.text.max_positions
        if prompt + new > limit:
            raise UsageError(
                f"the prompt has {prompt} tokens and the answer may have {new}, this model's "
                f"context is {limit}",
                "Pass a lower --max-new-tokens, fewer or smaller pictures, or a shorter prompt.",
            )


def kept_per_image(
    encoded: Encoded, positions: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], ...]:
    """Which visual tokens of each image survived, counted from 0 in the image."""
    survived = np.flatnonzero(np.isin(encoded.visual_positions, positions)).astype(np.int32)
    ends = np.cumsum(encoded.image_lengths)
    starts = ends - encoded.image_lengths
    return tuple(
        survived[(survived >= start) & (survived < end)] - np.int32(start)
        for start, end in zip(starts, ends, strict=True)
    )


def stored_prior(bundle: Bundle) -> Prior:
    """The prior of a bundle: that of its file, else of ones."""
    manifest = bundle.manifest
    tokens = manifest.model.vision.tokens_per_tile
    path = manifest.selector.prior.path
    return read_prior(bundle.path(path), tokens) if path is not None else Prior.ones(tokens)
