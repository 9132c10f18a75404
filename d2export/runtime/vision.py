"""Run a bundle's vision graph: a picture in, the visual tokens worth keeping out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.bundle.records import Graph
from d2export.engine.custom_op import Implementation, selection_implementation
from d2export.engine.onnxruntime import open_session
from d2export.errors import BundleError, UsageError
from d2export.models.images import load_image
from d2export.models.presets import VisionSpec
from d2export.models.tiling import Tiles, normalize, tile

if TYPE_CHECKING:
    import onnxruntime

Inputs = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class VisionResult:
    """What a vision graph answered.

    Attributes:
        image_embeds: `[M, hidden]`, float32 or float16 as the bundle's precision says.
        kept_indices: `[M]` int32, ascending: which of the picture's tokens these are.
        tiles: the picture as it was cut.
        seconds: wall time of the graph alone.
    """

    image_embeds: npt.NDArray[Any]
    kept_indices: npt.NDArray[np.int32]
    tiles: Tiles
    seconds: float


class VisionRunner:
    """A session over the vision graph of a bundle.

    Args:
        bundle: an opened bundle.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.
        attributes: of the pruning ops, instead of those in the bundle. Needs the onnx package.

    Raises:
        BundleError: the bundle lies where ONNX Runtime cannot open it.
    """

    shows_inside = True  # whether values inside the graph can be looked at

    def __init__(
        self,
        bundle: Bundle,
        *,
        provider: str = "cpu",
        threads: int | None = None,
        attributes: Mapping[str, int] | None = None,
    ) -> None:
        try:
            str(bundle.root).encode()
        except UnicodeEncodeError:
            raise BundleError(
                f"the path {bundle.root} is not UTF-8, so ONNX Runtime cannot open it", "Rename it."
            ) from None
        self.bundle = bundle
        self._options: dict[str, Any] = {
            "precision": bundle.manifest.precision,
            "provider": provider,
            "threads": threads,
            "attributes": attributes,
        }

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The vision graph."""
        return self.open(self.bundle.manifest.graphs.vision)

    @cached_property
    def prune_session(self) -> onnxruntime.InferenceSession:
        """The pruning op alone."""
        return self.open(self.bundle.manifest.graphs.prune)

    @property
    def backend(self) -> str:
        """What runs the graph."""
        return "onnxruntime"

    @property
    def selection_implementation(self) -> Implementation:
        """What runs the pruning op: native code, or the graph's function of standard operators."""
        return selection_implementation(self._options["provider"])

    def open(
        self, graph: Graph, extra_outputs: tuple[str, ...] = ()
    ) -> onnxruntime.InferenceSession:
        """A new session over one of the bundle's graphs, on this runner's provider and threads."""
        return open_session(
            self.bundle.path(graph.path), extra_outputs=extra_outputs, **self._options
        )

    def run(
        self, image: Path | str, prompt_embeds: npt.NDArray[np.float32] | None = None
    ) -> VisionResult:
        """Answer for the picture in the file `image`.

        Args:
            prompt_embeds: `[P, hidden]`, needed by a bundle with importance `text` only.

        Raises:
            ImageError: the picture cannot be used.
            UsageError: a prompt is missing, superfluous, or has another width.
        """
        tiles = tile(load_image(image), self.bundle.manifest.model.vision)
        image_embeds, kept_indices, seconds = self.timed(self.inputs(tiles, prompt_embeds))
        return VisionResult(image_embeds, kept_indices, tiles, seconds)

    def timed(self, inputs: Inputs) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32], float]:
        """What `infer` answers and its seconds, without those of opening the session."""
        self.prepare()
        start = time.perf_counter()
        return *self.infer(inputs), time.perf_counter() - start

    def prepare(self) -> None:
        """Open what `infer` runs, if it is not open yet."""
        _ = self.session

    def infer(self, inputs: Inputs) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """`image_embeds` and `kept_indices` for named inputs.

        Raises:
            BundleError: ONNX Runtime cannot run the graph on them.
        """
        names = ["image_embeds", "kept_indices"]
        if not self.bundle.manifest.plan.padded:
            embeds, indices = self._answer(names, inputs)
            return embeds, indices
        embeds, indices, count = self._answer([*names, "count"], inputs)
        return embeds[: count[0]], indices[: count[0]]

    def embed(self, pixel_values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """All visual tokens `[N, hidden]` of one picture, in a bundle of scope `vlm`.

        Args:
            pixel_values: `[T, 3, S, S]` normalised tiles.

        Raises:
            BundleError: ONNX Runtime cannot run the graph on them.
        """
        (embeds,) = self._answer(["image_embeds"], {"pixel_values": pixel_values})
        return embeds

    def _answer(self, names: list[str], inputs: Inputs) -> list[npt.NDArray[Any]]:
        try:
            return list(self.session.run(names, inputs))
        except Exception as error:  # onnxruntime raises bare types of its own C++ bindings
            if type(error).__module__.startswith("onnxruntime"):
                raise BundleError(
                    f"ONNX Runtime cannot run {self.bundle.manifest.graphs.vision.path} of "
                    f"{self.bundle.root}: {' '.join(str(error).split())[:400]}",
                    "Build the bundle again.",
                ) from None
            raise

    def inputs(self, tiles: Tiles, prompt_embeds: npt.NDArray[np.float32] | None = None) -> Inputs:
        """The graph's inputs by name.

        Raises:
            UsageError: a prompt is missing, superfluous, or has another width.
        """
        manifest = self.bundle.manifest
        check_prompt(self.bundle, given=prompt_embeds is not None)
        if prompt_embeds is not None:
            width = manifest.model.text.hidden
            if prompt_embeds.ndim != 2 or prompt_embeds.shape[1] != width or not len(prompt_embeds):
                raise UsageError(
                    f"prompt_embeds has shape {list(prompt_embeds.shape)}, expected [P, {width}]",
                    "Pass input embeddings of this bundle's language model, a row per token.",
                )
        return vision_inputs(tiles.pixels, tiles.grid, manifest.model.vision, prompt_embeds)


def check_prompt(bundle: Bundle, *, given: bool) -> None:
    """Raise a UsageError unless a prompt is given just where the bundle needs one."""
    importance = bundle.manifest.selector.importance
    needed = importance == "text"
    if needed != given:
        raise UsageError(
            f"this bundle has importance '{importance}', which needs {'a' if needed else 'no'} "
            "prompt",
            "Pass --prompt or --prompt-embeds." if needed else "Leave the prompt out.",
        )


def vision_inputs(
    pixels: npt.NDArray[np.uint8],
    grid: npt.NDArray[np.float32],
    vision: VisionSpec,
    prompt_embeds: npt.NDArray[np.float32] | None = None,
) -> Inputs:
    """`pixel_values`, `token_grid` and, if there is a prompt, `prompt_embeds`, all float32."""
    inputs = {"pixel_values": normalize(pixels, vision.image), "token_grid": grid}
    if prompt_embeds is not None:
        inputs["prompt_embeds"] = np.ascontiguousarray(prompt_embeds, np.float32)
    return inputs
