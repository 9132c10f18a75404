"""What the last token of a prompt attends to, in the layer whose attention decides what stays."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.engine.onnxruntime import open_session
from d2export.errors import BundleError, UsageError
from d2export.runtime.tokenizer import Encoded

if TYPE_CHECKING:
    import onnxruntime

IMPORTANCE = "importance"  # of `export.decoder.trace_decoder`


class ImportanceRunner:
    """A session over the lower part of a decoder graph: the layers below the one that prunes.

    Nothing above it runs or is loaded: of InternVL2.5-8B with K = 2, two layers of 32.

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
        if bundle.manifest.graphs.decoder is None:
            raise UsageError(
                f"{bundle.root} has scope '{bundle.manifest.scope}', so it has no language model",
                "Build it with --scope vlm.",
            )
        self.bundle = bundle
        self.graph = bundle.manifest.graphs.decoder
        self._provider, self._threads = provider, threads

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The part of the graph; needs the onnx package."""
        return open_session(
            self.bundle.path(self.graph.path),
            precision=self.bundle.manifest.precision,
            provider=self._provider,
            threads=self._threads,
            only_outputs=(IMPORTANCE,),
        )

    def __call__(self, encoded: Encoded, embeds: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Attention of the prompt's last token on its visual tokens, mean over heads: `[V]`.

        Args:
            encoded: a prompt with images.
            embeds: `[V, hidden]`, the visual tokens of all images.

        Raises:
            UsageError: the prompt is longer than the model's context.
            BundleError: ONNX Runtime cannot run the graph on it.
        """
        text, length = self.bundle.manifest.model.text, len(encoded.input_ids)
        if length > text.max_positions:
            raise UsageError(
                f"the prompt has {length} tokens, this model's context {text.max_positions}",
                "Use a smaller picture, or a shorter prompt.",
            )
        inputs = {value.name: value.type for value in self.session.get_inputs()}
        dtype = np.float16 if inputs["image_embeds"] == "tensor(float16)" else np.float32
        nothing = np.zeros((1, text.kv_heads, 0, text.head_dim), dtype)
        feeds = dict.fromkeys((name for name in inputs if name.startswith("past")), nothing) | {
            "input_ids": encoded.input_ids[None],
            "image_embeds": embeds.astype(dtype, copy=False),
            "visual_positions": encoded.visual_positions,
            "position_ids": np.arange(length)[None],
        }
        (row,) = self._run(feeds)
        heads = row[0].astype(np.float64)
        importance: npt.NDArray[np.float64] = heads[:, encoded.visual_positions].mean(axis=0)
        return importance

    def _run(self, feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        try:
            return list(self.session.run([IMPORTANCE], feeds))
        except Exception as error:  # onnxruntime raises bare types of its own C++ bindings
            if type(error).__module__.startswith("onnxruntime"):
                raise BundleError(
                    f"ONNX Runtime cannot run {self.graph.path} of {self.bundle.root}: "
                    f"{' '.join(str(error).split())[:400]}",
                    "Is there enough memory? Else build the bundle again.",
                ) from None
            raise
